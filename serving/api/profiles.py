"""``/v1/profiles``: one user, or many."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response

from afterglow_client.errors import UNREADABLE
from serving.api import answers
from serving.api.lookups import Lookups
from serving.api.parts import Parts
from serving.api.problems import Problem, wrong_input
from serving.api.routes import (
    ID_SCHEMA,
    allowed,
    checked_id,
    documented,
    if_none_match_parameter,
    parts_of,
    refused,
    unknown_user,
    user_id_parameter,
)

PATH: Final = "/v1/profiles"
router = APIRouter(prefix=PATH, tags=["profiles"])


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """A question about many users."""

    user_ids: list[str]


_AT_ONCE: Final = 100
"""Profiles read and written without a break, so that lookups of others come in between."""
_batches: Final = msgspec.json.Decoder(Batch)


@router.get(
    "/{user_id:path}",
    summary="One profile",
    response_class=Response,
    responses={
        200: documented("Profile", "The profile, with what holds now.", msgpack=True),
        304: {"description": "The client has it already."},
        **refused(404),
    },
    openapi_extra={"parameters": [user_id_parameter(), if_none_match_parameter()]},
)
async def get_profile(request: Request) -> Response:
    """A user's profile as of the last commit, without what has run out since.

    `Accept: application/msgpack` gives it as it is stored.
    """
    held = request.headers
    return await look_up(
        parts_of(request),
        request.app.state.lookups,
        request.path_params["user_id"],
        held.get("authorization"),
        held.get("accept"),
        held.get("if-none-match"),
    )


async def look_up(
    parts: Parts,
    lookups: Lookups,
    user_id: str,
    authorization: str | None,
    accept: str | None,
    if_none_match: str | None,
) -> Response:
    """The answer about one user, with the headers that it depends on.

    Raises:
        Problem: there is none.
        AfterglowError: the store cannot be read.
    """
    parts.tokens.check(authorization, "read")
    found = await lookups.get(checked_id(user_id))
    if found is None:
        raise unknown_user(user_id, "no event has been committed of")
    msgpack, document = answers.wants_msgpack(accept), answers.current(found)
    return answers.answer(
        document,
        msgpack=msgpack,
        tag=answers.profile_tag(found, msgpack=msgpack),
        if_none_match=if_none_match,
        cache=answers.cache_control(found.valid_to_ms, parts.clock_ms(), parts.terms.max_age_s),
        valid_to_ms=found.valid_to_ms,
        raw=found.raw if document is found.document else None,
    )


@router.post(
    "",
    summary="Many profiles",
    response_class=Response,
    responses={200: documented("Profiles", "Those that are known."), **refused(413)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Batch"}}},
        }
    },
)
async def get_profiles(request: Request) -> Response:
    """The profiles of up to `serve.batch` users."""
    parts = allowed(request, "read")
    asked = await _batch(request, parts.terms.max_body_bytes)
    if len(asked) > parts.terms.batch:
        raise Problem(
            413,
            "too-many",
            "Too many users at once",
            f"{len(asked):,} user ids came, but {parts.terms.batch:,} are taken (serve.batch)",
            "Ask in several requests",
        )
    users = [checked_id(user_id) for user_id in dict.fromkeys(asked)]
    known: list[bytes] = []
    unknown: list[str] = []
    for first in range(0, len(users), _AT_ONCE):
        piece = users[first : first + _AT_ONCE]
        found = await parts.reader.get_many(piece)
        unknown += [user for user in piece if user not in found]
        if found:
            profiles = {user: answers.current(profile) for user, profile in found.items()}
            known.append(answers.encode(profiles)[1:-1])
    return answers.packed(
        b'{"profiles":{%b},"unknown":%b}' % (b",".join(known), answers.encode(unknown))
    )


async def _batch(request: Request, most_bytes: int) -> list[str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise Problem(
                413,
                "too-large",
                "The request is too large",
                f"more than {most_bytes:,} bytes came (serve.max_body)",
                "Ask in several requests",
            )
    try:
        return _batches.decode(bytes(body)).user_ids
    except UNREADABLE as error:
        raise wrong_input(
            f'the body must be JSON such as {{"user_ids": ["ann"]}}: {error}',
            "Send such a body with Content-Type: application/json",
        ) from error


def schemas() -> dict[str, Any]:
    """Of the document."""
    return {
        "Batch": {
            "type": "object",
            "required": ["user_ids"],
            "additionalProperties": False,
            "properties": {
                "user_ids": {
                    "type": "array",
                    "items": ID_SCHEMA,
                    "example": ["ann", "bob"],
                }
            },
        },
        "Profiles": {
            "type": "object",
            "required": ["profiles", "unknown"],
            "properties": {
                "profiles": {
                    "type": "object",
                    "additionalProperties": {"$ref": "#/components/schemas/Profile"},
                },
                "unknown": {"type": "array", "items": {"type": "string"}},
            },
        },
        "Profile": {
            "type": "object",
            "description": "All money is in minor units, all times are epoch milliseconds.",
            "required": ["v", "user_id", "as_of", "commit", "segments", "scores", "offers"],
            "properties": {
                "v": {"type": "integer", "const": 1},
                "user_id": {"type": "string"},
                "as_of": {"type": "integer"},
                "commit": {"type": "integer"},
                "changes": {"type": "integer"},
                "segments": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "required": ["since", "version", "valid_to"],
                        "properties": {
                            "since": {"type": "integer"},
                            "version": {"type": "integer"},
                            "valid_to": {"type": ["integer", "null"]},
                        },
                    },
                },
                "scores": {
                    "type": "object",
                    "additionalProperties": {"type": ["number", "null"]},
                },
                "offers": {"type": "object"},
            },
        },
    }
