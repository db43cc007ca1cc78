"""``/v1/candidates``: the items recommended to a user."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from serving.api import answers
from serving.api.routes import (
    allowed,
    checked_id,
    documented,
    if_none_match_parameter,
    refused,
    unknown_user,
    user_id_parameter,
)

router = APIRouter(prefix="/v1/candidates", tags=["candidates"])


@router.get(
    "/{user_id:path}",
    summary="Items recommended to a user",
    response_class=Response,
    responses={
        200: documented("Candidates", "The list, the best item first.", msgpack=True),
        304: {"description": "The client has it already."},
        **refused(404),
    },
    openapi_extra={"parameters": [user_id_parameter(), if_none_match_parameter()]},
)
async def get_candidates(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100, description="Most items.")] = 100,
) -> Response:
    """A user's list. One that is older than its `valid_to` is given too, with `valid` false."""
    parts = allowed(request, "read")
    user_id = checked_id(request.path_params["user_id"])
    found = await parts.reader.candidates(user_id)
    if found is None:
        raise unknown_user(user_id, "no item was ever recommended to")
    msgpack = answers.wants_msgpack(request.headers.get("accept"))
    items = found.document["items"]
    document = {**found.document, "items": items[:limit], "valid": found.is_valid}
    tag = answers.candidates_tag(found, msgpack=msgpack)
    return answers.answer(
        document,
        msgpack=msgpack,
        tag=tag if limit >= len(items) else f'{tag[:-1]}-{limit}"',
        if_none_match=request.headers.get("if-none-match"),
        cache=answers.cache_control(found.valid_to_ms, parts.clock_ms(), parts.terms.max_age_s),
        valid_to_ms=found.valid_to_ms,
    )


def schemas() -> dict[str, Any]:
    """Of the document."""
    return {
        "Candidates": {
            "type": "object",
            "required": ["v", "user_id", "as_of", "valid_to", "valid", "items"],
            "properties": {
                "v": {"type": "integer"},
                "user_id": {"type": "string"},
                "as_of": {"type": "integer"},
                "valid_to": {"type": "integer"},
                "valid": {"type": "boolean"},
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["item_id", "score", "source", "because"],
                        "properties": {
                            "item_id": {"type": "string"},
                            "score": {"type": "number"},
                            "source": {"type": "string"},
                            "because": {"type": ["string", "null"]},
                        },
                    },
                },
            },
        }
    }
