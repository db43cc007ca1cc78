"""What the routes share: parameters, responses in the document, and checks of what came in."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import HTTPConnection

from serving.api.answers import JSON, MSGPACK
from serving.api.parts import Parts
from serving.api.problems import MEDIA, Problem, wrong_input

LONGEST_ID: Final = 128
ID_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST_ID,
    "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$",
}
_PROBLEM: Final = {"schema": {"$ref": "#/components/schemas/Problem"}}
_DESCRIBED: Final = {
    401: "No token came, or none that is known here.",
    403: "This token may not.",
    404: "Nothing is known of what was asked for.",
    413: "The request is larger than the server takes.",
    422: "The request cannot be understood.",
    429: "There are as many followers as the server takes; `Retry-After` says when to try again.",
    503: "The store is away or cannot be read, or the server is busy; `Retry-After` says when to "
    "try again.",
}
PROBLEM_SCHEMA: Final = {
    "type": "object",
    "description": "What is wrong, and what to do (RFC 9457).",
    "required": ["type", "title", "status", "detail", "fix"],
    "properties": {
        "type": {"type": "string", "description": "A stable name: urn:afterglow:problem:…"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "fix": {"type": "string", "description": "What to do."},
    },
}


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses of the document that are problems; 401, 403, 422 and 503 are always among them."""
    return {
        status: {"description": _DESCRIBED[status], "content": {MEDIA: _PROBLEM}}
        for status in sorted({401, 403, 422, 503, *statuses})
    }


def documented(schema: str, description: str, *, msgpack: bool = False) -> dict[str, Any]:
    """A response of the document that is one of its schemas."""
    held: dict[str, Any] = {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if msgpack:
        held[MSGPACK] = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": held}


def user_id_parameter() -> dict[str, Any]:
    """The user id in a path."""
    return {
        "name": "user_id",
        "in": "path",
        "required": True,
        "description": "Percent-encoded; it may hold any character but control characters.",
        "schema": ID_SCHEMA,
        "example": "ann",
    }


def if_none_match_parameter() -> dict[str, Any]:
    """What a client has already."""
    return {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "description": "The ETag of an earlier answer: 304 if it still holds.",
        "schema": {"type": "string", "pattern": r'^(W/)?"[!#-~]*"$'},
    }


def checked_id(user_id: str) -> str:
    """A user id that there could be.

    Raises:
        Problem: there is none like it.
    """
    if not 0 < len(user_id) <= LONGEST_ID or (not user_id.isprintable() and _controls(user_id)):
        raise wrong_input(
            f"a user id must be 1 to {LONGEST_ID} characters without control characters, but "
            f"{user_id[:80]!r} came",
            "Send the id as it stands in the events, percent-encoded in a path",
        )
    return user_id


def _controls(text: str) -> bool:
    return any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)


def parts_of(connection: HTTPConnection) -> Parts:
    """What the server is made of."""
    parts: Parts = connection.app.state.parts
    return parts


def allowed(connection: HTTPConnection, role: str) -> Parts:
    """The parts, for a request that may have them.

    Raises:
        Problem: it may not.
    """
    parts = parts_of(connection)
    parts.tokens.check(connection.headers.get("authorization"), role)
    return parts


def unknown_user(user_id: str, why: str) -> Problem:
    """Nobody of this name."""
    return Problem(
        404,
        "unknown-user",
        "Nothing is known of this user",
        f"{why} {user_id!r}",
        "Check how the id is written; a user is known once an event has been committed",
    )
