"""Documents as answers: JSON or MessagePack, with an entity tag and how long they may be kept.

A stored document goes out as it is while nothing in it has run out. What has run out is left out,
and counts in the entity tag: time changes an answer as a commit does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

import msgspec
from starlette.responses import Response

from afterglow_client import Candidates, Profile

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
_VARY: Final = (b"vary", b"Accept, Authorization")
_IS_JSON: Final = (b"content-type", JSON.encode())
_IS_MSGPACK: Final = (b"content-type", MSGPACK.encode())
encode: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode


def wants_msgpack(accept: str | None) -> bool:
    """Whether a client asked for MessagePack by name.

    >>> wants_msgpack("application/msgpack"), wants_msgpack("*/*"), wants_msgpack(None)
    (True, False, False)
    """
    return accept is not None and MSGPACK in accept


def lapsed(profile: Profile) -> int:
    """How many things in a stored profile have run out."""
    document = profile.document
    held = document["scores"]
    stale = bool(
        held and not profile.scores and any(v is not None for n, v in held.items() if n != VALID)
    )
    return len(profile.lapsed) + len(document["offers"]) - len(profile.offers) + stale


VALID: Final = "valid_to"


def current(profile: Profile) -> Mapping[str, Any]:
    """The document with what holds now."""
    document = profile.document
    if not lapsed(profile):
        return document
    segments = document["segments"]
    return {
        **document,
        "segments": {name: segments[name] for name in profile.segments},
        "offers": profile.offers,
        "scores": document["scores"] if profile.scores else {},
    }


def profile_tag(profile: Profile, *, msgpack: bool) -> str:
    """What tells this answer from every other about this user.

    The commit alone does not: a store that was set back counts the same commits again.
    """
    return f'"{profile.commit}-{_sum(profile.raw)}-{lapsed(profile)}{"m" if msgpack else ""}"'


def candidates_tag(found: Candidates, *, msgpack: bool) -> str:
    """What tells this list from every other of this user."""
    is_old = int(not found.is_valid)
    return f'"{found.as_of_ms}-{_sum(found.raw)}-{is_old}{"m" if msgpack else ""}"'


def _sum(raw: bytes) -> str:
    return f"{crc32(raw):08x}"


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether a client has this answer already.

    >>> matches('W/"7-0", "8-0"', '"8-0"'), matches("*", '"8-0"'), matches('"7-0"', '"8-0"')
    (True, True, False)
    """
    if if_none_match is None:
        return False
    parts = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return tag in parts or "*" in parts


def cache_control(valid_to_ms: int | None, now_ms: int, max_age_s: float) -> str:
    """How long a client may keep an answer: no longer than it holds, nor than it is granted.

    >>> cache_control(4_500, 1_000, 60.0), cache_control(None, 0, 60.0), cache_control(None, 0, 0)
    ('private, max-age=3', 'private, max-age=60', 'private, no-cache')
    """
    left_s = max_age_s if valid_to_ms is None else (valid_to_ms - now_ms) / 1000
    age_s = int(min(max_age_s, left_s))
    return f"private, max-age={age_s}" if age_s > 0 else "private, no-cache"


class Raw(Response):
    """An answer whose headers are bytes already: what lookups send, thousands of times a second.

    Args:
        status: of HTTP.
        body: all of it.
        headers: without that of its length.
    """

    def __init__(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code, self.body, self.background = status, body, None
        if status != 304:
            headers.append((b"content-length", b"%d" % len(body)))
        self.raw_headers = headers


def answer(
    document: Mapping[str, Any],
    *,
    msgpack: bool,
    tag: str,
    if_none_match: str | None,
    cache: str,
    valid_to_ms: int | None = None,
    raw: bytes | None = None,
) -> Raw:
    """The answer, or that the client has it.

    Args:
        document: what to send.
        msgpack: as MessagePack instead of JSON.
        tag: its entity tag.
        if_none_match: what the client has.
        cache: how long it may be kept.
        valid_to_ms: when the next part of it runs out.
        raw: the document as MessagePack, where it is at hand.
    """
    headers = [(b"etag", tag.encode()), (b"cache-control", cache.encode()), _VARY]
    if valid_to_ms is not None:
        headers.append((b"afterglow-valid-to", b"%d" % valid_to_ms))
    if matches(if_none_match, tag):
        return Raw(304, b"", headers)
    if msgpack:
        headers.append(_IS_MSGPACK)
        return Raw(200, raw or _encode_msgpack(document), headers)
    headers.append(_IS_JSON)
    return Raw(200, encode(document), headers)


def plain(document: Any, status: int = 200) -> Response:
    """An answer of the moment, not to be kept."""
    return packed(encode(document), status)


def packed(body: bytes, status: int = 200) -> Response:
    """The same, of JSON that is there already."""
    return Response(body, status, {"cache-control": "no-store"}, JSON)
