"""``/health``, ``/ready``, ``/metrics``: for those who run the server; no token is needed."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from afterglow_client import AfterglowError
from serving.api import answers
from serving.api.routes import documented, parts_of

router = APIRouter(tags=["operations"])
_PAGE: Final = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/health",
    summary="Whether the process is alive",
    response_class=Response,
    responses={200: documented("Health", "It is.")},
)
async def health() -> Response:
    """Alive, whatever it leans on: restart the process where no answer comes."""
    return answers.plain({"status": "alive"})


@router.get(
    "/ready",
    summary="Whether it can answer",
    response_class=Response,
    responses={
        200: documented("Health", "It can."),
        503: documented("Health", "It cannot; `why` says why."),
    },
)
async def ready(request: Request) -> Response:
    """Whether the store and the change topic can be read: send no traffic where they cannot."""
    parts, why = parts_of(request), []
    try:
        await parts.reader.ping()
    except AfterglowError as error:
        why.append(f"store: {error}")
    if parts.feed is not None and parts.feed.trouble:
        why.append(f"changes: {parts.feed.trouble}")
    if why:
        return answers.plain({"status": "not ready", "why": why}, 503)
    return answers.plain({"status": "ready"})


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "All of them.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
)
async def metrics(request: Request) -> Response:
    """Requests, how long they took, followers."""
    return Response(parts_of(request).metrics.page(), headers={"content-type": _PAGE})


def schemas() -> dict[str, Any]:
    """Of the document."""
    return {
        "Health": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": {"type": "string", "enum": ["alive", "ready", "not ready"]},
                "why": {"type": "array", "items": {"type": "string"}},
            },
        }
    }
