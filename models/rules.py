"""Rules of the shop's people over what is recommended: leave out, push, put in a place.

A rule has a name and any of three parts: items that match ``exclude`` are in no list; the score of
those that match ``boost`` is multiplied; and ``pin`` puts items at places of every list, as long as
nothing speaks against them. It holds from ``valid_from`` up to, not including, ``valid_to``.
``models.ruling`` is what they come to.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from state.times import FAR_MS, NEVER_MS

PLACES_MOST: Final = 100


class Boost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of items that match are multiplied."""

    when: str
    factor: Annotated[float, Meta(gt=0, le=1000)]


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items at places of every list: the first at ``place``, from 1, the others behind it."""

    items: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(min_length=1)
    ]
    place: Annotated[int, Meta(ge=1, le=PLACES_MOST)] = 1


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule as it is stored; times are epoch milliseconds."""

    exclude: str = ""
    boost: Boost | None = None
    pin: Pin | None = None
    valid_from: int = NEVER_MS
    valid_to: int = FAR_MS

    def holds_at(self, now_ms: int) -> bool:
        """Whether it is in force."""
        return self.valid_from <= now_ms < self.valid_to


class RuleSet(msgspec.Struct, frozen=True):
    """What stands in the store: all rules, and when they were set."""

    set_at: int
    rules: dict[str, Rule]


class RuleError(ValueError):
    """A rule cannot mean anything; the message says which and why."""


def encode_rules(rules: RuleSet) -> bytes:
    """Rules as they are stored, JSON.

    >>> encode_rules(RuleSet(5, {"a": Rule(exclude="price < 100")}))
    b'{"set_at":5,"rules":{"a":{"exclude":"price < 100"}}}'
    """
    return msgspec.json.encode(rules)


def decode_rules(raw: bytes) -> RuleSet:
    """What ``encode_rules`` gave.

    Raises:
        RuleError: it is nothing of the kind.
    """
    try:
        return msgspec.json.decode(raw, type=RuleSet)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RuleError(f"the stored rules cannot be read: {error}") from error
