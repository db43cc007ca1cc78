"""Errors as problem documents (RFC 9457): what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response

from afterglow_client import AfterglowError, Forbidden, NotAfterglow, Unavailable, UnknownSegment

MEDIA: Final = "application/problem+json"
_URN: Final = "urn:afterglow:problem:"


class Problem(Exception):
    """An answer that is none.

    Args:
        status: of HTTP.
        kind: a stable name, such as ``unknown-user``.
        title: the same for every problem of its kind.
        detail: of this one.
        fix: what to do.
        headers: more of the answer's.

    >>> Problem(404, "unknown-user", "Nothing is known of this user", "of 'ann'", "Check the id"
    ...     ).document()["type"]
    'urn:afterglow:problem:unknown-user'
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        fix: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title = status, kind, title
        self.detail, self.fix, self.headers = detail, fix, dict(headers or {})

    def document(self) -> dict[str, str | int]:
        """As it is sent."""
        return {
            "type": _URN + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "fix": self.fix,
        }

    def response(self) -> Response:
        """The answer."""
        return Response(
            msgspec.json.encode(self.document()),
            self.status,
            {"cache-control": "no-store", **self.headers},
            MEDIA,
        )


def of_store(error: AfterglowError) -> Problem:
    """What the client says of the store, as a problem of this API."""
    if isinstance(error, UnknownSegment):
        return Problem(
            404,
            "unknown-segment",
            "There is no such segment",
            str(error),
            "GET /v1/segments lists all names",
        )
    kinds = {
        Unavailable: ("store-away", "The store does not answer", "Try again in a moment", "1"),
        Forbidden: ("store-refuses", "The store refuses this server", _MEND, "30"),
        NotAfterglow: ("store-unreadable", "The store's data cannot be read", _MEND, "30"),
    }
    kind, title, fix, after_s = next(
        (told for each, told in kinds.items() if isinstance(error, each)),
        ("store-away", "The store does not answer", "Try again in a moment", "1"),
    )
    return Problem(503, kind, title, str(error), fix, {"retry-after": after_s})


_MEND: Final = "Whoever runs the server must mend it: `afterglow doctor` says how"


def wrong_input(detail: str, fix: str) -> Problem:
    """A request that means nothing."""
    return Problem(422, "wrong-input", "The request cannot be understood", detail, fix)
