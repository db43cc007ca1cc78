"""``/v1/explanations``: why a user is in a segment, has an offer or is shown an item, or not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from serving.api import answers
from serving.api.parts import NotExplained, Parts
from serving.api.problems import Problem
from serving.api.routes import ID_SCHEMA, LONGEST_ID, allowed, documented, refused, unknown_user

router = APIRouter(prefix="/v1/explanations", tags=["explanations"])
_Id = Annotated[str, Query(min_length=1, max_length=LONGEST_ID, pattern=ID_SCHEMA["pattern"])]
_Name = Annotated[str, Query(min_length=1, max_length=LONGEST_ID)]
Kind = Literal["segment", "offer", "item"]


@router.get(
    "",
    summary="Why",
    response_class=Response,
    responses={200: documented("Explanation", "In words."), **refused(404)},
)
async def explain(request: Request, user_id: _Id, kind: Kind, name: _Name) -> Response:
    """Why a user is, or is not, in a segment, given an offer, or shown an item.

    For a segment or an offer the definition is evaluated again, at the present time, so this takes
    the server far longer than a lookup.
    """
    parts = allowed(request, "read")
    try:
        text = await _explained(parts, user_id, kind, name)
    except NotExplained as error:
        raise Problem(
            404,
            "not-explained",
            "There is nothing to explain",
            str(error),
            "Check the names; GET /v1/segments lists all segments",
        ) from error
    return answers.plain({"user_id": user_id, "kind": kind, "name": name, "text": text})


async def _explained(parts: Parts, user_id: str, kind: Kind, name: str) -> str:
    if kind == "item" and parts.explain_item is not None:
        found = await parts.reader.candidates(user_id)
        if found is None:
            raise unknown_user(user_id, "no item was ever recommended to")
        return parts.explain_item(dict(found.document), name)
    if parts.explain is None:
        raise Problem(
            503,
            "no-explanations",
            "This server explains nothing",
            "it was started without the engine's settings",
            "Ask a server that `afterglow serve` runs",
        )
    return await parts.explain(user_id, name if kind == "segment" else f"offers.{name}")


def schemas() -> dict[str, Any]:
    """Of the document."""
    return {
        "Explanation": {
            "type": "object",
            "required": ["user_id", "kind", "name", "text"],
            "properties": {
                "user_id": {"type": "string"},
                "kind": {"type": "string", "enum": ["segment", "offer", "item"]},
                "name": {"type": "string"},
                "text": {"type": "string"},
            },
        }
    }
