"""What is known of a user, as the engine stored it, and what of it holds at a given time.

The engine looks at silent users when something about them runs out, and writes what comes of it a
moment later. So that an edge is right in that moment, and while an engine stands still, whatever
carries a ``valid_to`` is dropped here once that time has come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from afterglow_client.errors import UNREADABLE, NotAfterglow

VERSION: Final = 1
"""Of the documents that this client reads."""

_ENVELOPE: Final = frozenset({"v", "user_id", "as_of", "commit", "segments", "scores", "offers"})
_decode: Final = msgspec.msgpack.Decoder().decode


@dataclass(slots=True, frozen=True)
class Membership:
    """One segment of a user.

    Attributes:
        since_ms: when the user entered it.
        version: of its definition.
        valid_to_ms: when it ends without another event; None if it does not.
    """

    since_ms: int
    version: int
    valid_to_ms: int | None


@dataclass(slots=True, frozen=True)
class Profile:
    """A user, as of ``as_of_ms``, with what of it holds at the time it was read for.

    Attributes:
        user_id: whose.
        as_of_ms: when the engine last looked at the user, epoch milliseconds.
        commit: sequence of the commit that wrote it; with ``user_id`` it names this version.
        segments: those the user is in, by name.
        lapsed: names whose ``valid_to`` has passed; the engine has not looked again yet. For a
            label of a family (one of the RFM ones, say) that is the earliest moment of a change,
            so it may yet be confirmed.
        scores: what models say, by name; empty when too old, without what they cannot say yet.
        offers: standing offers by name, as stored.
        valid_to_ms: when the next of these ends; None if none does.
        document: all of it, as stored.
        raw: the document's bytes, MessagePack.
    """

    user_id: str
    as_of_ms: int
    commit: int
    segments: Mapping[str, Membership]
    lapsed: tuple[str, ...]
    scores: Mapping[str, float | int]
    offers: Mapping[str, Mapping[str, Any]]
    valid_to_ms: int | None
    document: Mapping[str, Any] = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def features(self) -> dict[str, Any]:
        """What is measured of the user: ``lifetime``, ``rfm``, ``session``, ``cart`` and others."""
        return {name: value for name, value in self.document.items() if name not in _ENVELOPE}

    def at(self, now_ms: int) -> Profile:
        """The same document, read for another time."""
        return profile_of(self.raw, now_ms)


@dataclass(slots=True, frozen=True)
class Candidates:
    """The list of items recommended to a user.

    Attributes:
        user_id: whose.
        as_of_ms: when it was made, epoch milliseconds.
        valid_to_ms: until when it holds.
        is_valid: whether it holds at the time it was read for; an old list may still serve.
        items: item ids, the best first.
        document: all of it, as stored: scores, sources and reasons.
        raw: the document's bytes, MessagePack.
    """

    user_id: str
    as_of_ms: int
    valid_to_ms: int
    is_valid: bool
    items: tuple[str, ...]
    document: Mapping[str, Any] = field(repr=False)
    raw: bytes = field(repr=False)


def profile_of(raw: bytes, now_ms: int) -> Profile:
    """A stored profile, read for a time.

    Raises:
        NotAfterglow: these bytes are none.

    >>> raw = msgspec.msgpack.encode({"v": 1, "user_id": "ann", "as_of": 1_000, "commit": 7,
    ...     "segments": {"vip": {"since": 10, "version": 1, "valid_to": None},
    ...                  "high_intent": {"since": 990, "version": 2, "valid_to": 5_000}},
    ...     "scores": {"churn": 0.25, "valid_to": 9_000}, "offers": {}})
    >>> list(profile_of(raw, 4_999).segments), list(profile_of(raw, 5_000).segments)
    (['vip', 'high_intent'], ['vip'])
    >>> profile_of(raw, 4_999).valid_to_ms, profile_of(raw, 5_000).lapsed
    (5000, ('high_intent',))
    """
    document = _document(raw, "profile")
    try:
        segments: dict[str, Membership] = {}
        lapsed: list[str] = []
        ends: list[int] = []
        for name, entry in document["segments"].items():
            valid_to = entry["valid_to"]
            if valid_to is not None:
                if valid_to <= now_ms:
                    lapsed.append(name)
                    continue
                ends.append(valid_to)
            segments[name] = Membership(entry["since"], entry["version"], valid_to)
        offers = {n: offer for n, offer in document["offers"].items() if offer["valid_to"] > now_ms}
        ends += [offer["valid_to"] for offer in offers.values()]
        return Profile(
            user_id=document["user_id"],
            as_of_ms=document["as_of"],
            commit=document["commit"],
            segments=segments,
            lapsed=tuple(lapsed),
            scores=_scores(document["scores"], now_ms, ends),
            offers=offers,
            valid_to_ms=min(ends, default=None),
            document=document,
            raw=raw,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(raw, "profile", f"{type(error).__name__}: {error}") from error


def candidates_of(raw: bytes, now_ms: int) -> Candidates:
    """A stored list of items, read for a time.

    Raises:
        NotAfterglow: these bytes are none.
    """
    document = _document(raw, "list of items")
    try:
        return Candidates(
            user_id=document["user_id"],
            as_of_ms=document["as_of"],
            valid_to_ms=document["valid_to"],
            is_valid=document["valid_to"] > now_ms,
            items=tuple(item["item_id"] for item in document["items"]),
            document=document,
            raw=raw,
        )
    except (KeyError, TypeError) as error:
        raise _damaged(raw, "list of items", f"{type(error).__name__}: {error}") from error


def member_of(raw: bytes) -> str:
    """A stored member of a segment.

    Raises:
        NotAfterglow: these bytes are no user id.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _damaged(raw, "member of a segment", str(error)) from error


def _scores(
    held: Mapping[str, float | int | None], now_ms: int, ends: list[int]
) -> dict[str, float | int]:
    """Those that hold; notes when they end."""
    valid_to = held.get("valid_to")
    if valid_to is None or valid_to <= now_ms:
        return {}
    known = {n: value for n, value in held.items() if value is not None and n != "valid_to"}
    if known:
        ends.append(int(valid_to))
    return known


def _document(raw: bytes, what: str) -> dict[str, Any]:
    try:
        document = _decode(raw)
    except UNREADABLE as error:
        raise _damaged(raw, what, str(error)) from error
    if not isinstance(document, dict):
        raise _damaged(raw, what, "it is no map")
    if document.get("v") != VERSION:
        raise NotAfterglow(
            f"a {what} has the version {document.get('v')!r}, but this client reads version "
            f"{VERSION}: install the afterglow-client of the engine's version"
        )
    return document


def _damaged(raw: bytes, what: str, why: str) -> NotAfterglow:
    return NotAfterglow(
        f"a stored {what} cannot be read ({why}): something else wrote there, or this client is of "
        f"another version than the engine; it begins {raw[:60]!r}"
    )
