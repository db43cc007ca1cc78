"""``/v1/segments``: which there are, how large, and who is in one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from afterglow_client import AfterglowError
from serving.api import answers
from serving.api.problems import of_store
from serving.api.routes import allowed, documented, refused

router = APIRouter(prefix="/v1/segments", tags=["segments"])

NDJSON: Final = "application/x-ndjson"
_AT_ONCE: Final = 500
_encode: Final = msgspec.json.Encoder().encode


@router.get(
    "",
    summary="All segments",
    response_class=Response,
    responses={200: documented("Segments", "Names and sizes, in the engine's order."), **refused()},
)
async def list_segments(request: Request) -> Response:
    """All segments that the engine decides, with how many members each has."""
    sizes = await allowed(request, "read").reader.sizes()
    return answers.plain(
        {"segments": [{"name": name, "members": size} for name, size in sizes.items()]}
    )


@router.get(
    "/{segment}/members",
    summary="Everybody in a segment",
    response_class=Response,
    responses={
        200: {
            "description": 'A line `{"user_id": "…"}` for each member, in no order. The last line '
            'is `{"members": n}`; without it, the list is not whole.',
            "content": {NDJSON: {"schema": {"type": "string"}}},
        },
        **refused(404),
    },
)
async def list_members(request: Request, segment: str) -> Response:
    """Everybody in a segment. Who enters or leaves while it is read may be in it or not."""
    members = allowed(request, "bulk").reader.members(segment)
    first: list[str] = []
    async for user_id in members:  # an error before the first line is an answer of its own
        first.append(user_id)
        break
    return StreamingResponse(
        _lines(first, members), media_type=NDJSON, headers={"cache-control": "no-store"}
    )


async def _lines(first: list[str], members: AsyncIterator[str]) -> AsyncIterator[bytes]:
    waiting, count = first, 0
    try:
        async with aclosing(members) as rest:  # type: ignore[type-var]
            async for user_id in rest:
                waiting.append(user_id)
                if len(waiting) >= _AT_ONCE:
                    yield _packed(waiting)
                    count, waiting = count + len(waiting), []
    except AfterglowError as error:
        yield _packed(waiting) + _encode({"problem": of_store(error).document()}) + b"\n"
        return
    yield _packed(waiting) + _encode({"members": count + len(waiting)}) + b"\n"


def _packed(user_ids: list[str]) -> bytes:
    return b"".join(_encode({"user_id": user_id}) + b"\n" for user_id in user_ids)


def schemas() -> dict[str, Any]:
    """Of the document."""
    return {
        "Segments": {
            "type": "object",
            "required": ["segments"],
            "properties": {
                "segments": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "members"],
                        "properties": {
                            "name": {"type": "string"},
                            "members": {"type": "integer", "minimum": 0},
                        },
                    },
                }
            },
        }
    }
