"""The common event: its types, its fields with their bounds, and why a message may be refused.

An event is one fact about one user at one time: a JSON object or a MessagePack map, one per
message. ``Message`` is its form on the wire, bounds included. What bounds cannot say (a purchase
needs an amount, a currency must be the shop's) stands in ``EventRules`` and ``events.careful``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from msgspec import Meta

TYPES: Final = (
    "page_view",
    "product_view",
    "search",
    "add_to_cart",
    "remove_from_cart",
    "wishlist_add",
    "purchase",
    "refund",
    "rating",
    "impression",
    "click",
    "email_open",
    "support_contact",
    "review",
    "attributes",
)
"""Types of event; a column holds the index into this tuple."""

PRODUCT_VIEW: Final = TYPES.index("product_view")
ADD_TO_CART: Final = TYPES.index("add_to_cart")
REMOVE_FROM_CART: Final = TYPES.index("remove_from_cart")
PURCHASE: Final = TYPES.index("purchase")
REFUND: Final = TYPES.index("refund")
IMPRESSION: Final = TYPES.index("impression")
CLICK: Final = TYPES.index("click")
RATING: Final = TYPES.index("rating")

RESERVED: Final = frozenset({"consent", "identify", "erase"})
"""Types with a meaning to come; dead letters until then."""

REASONS: Final[Mapping[str, str]] = {
    "malformed": "neither JSON nor MessagePack",
    "not_a_map": "not a JSON object or MessagePack map",
    "too_large": "more bytes than allowed",
    "missing": "a required field is absent",
    "invalid": "a field has the wrong type, length or range",
    "unknown_type": "a type of event that is not configured",
    "unsupported": "a reserved type that is not built yet",
    "currency": "a currency without a rate",
    "future": "event time too far ahead of the log's",
    "too_old": "event time too far behind the log's",
}
"""Why a message becomes a dead letter."""

MAX_TS_MS: Final = 9_999_999_999_999
MAX_AMOUNT: Final = 1e9

Millis = Annotated[int, Meta(ge=0, le=MAX_TS_MS)]
Amount = Annotated[float, Meta(ge=0, le=MAX_AMOUNT)]
Text64 = Annotated[str, Meta(min_length=1, max_length=64)]
Text128 = Annotated[str, Meta(min_length=1, max_length=128)]
Optional64 = Annotated[str, Meta(max_length=64)] | None
Optional128 = Annotated[str, Meta(max_length=128)] | None


class Anything(msgspec.Struct, gc=False):
    """A map with text keys and any values, none of which is read."""


class Message(msgspec.Struct, gc=False):
    """An event on the wire; ``docs/events.md`` describes it.

    Attributes:
        event_id: unique per user.
        user_id: whose; no control characters.
        type: one of the configured types.
        ts: event time, epoch milliseconds UTC or RFC 3339 text with an offset.
        source, category, session_id, device, country: free texts; empty counts as absent.
        item_id: the item; needed by cart events.
        amount: the line's total in major units, a number or a decimal text; needed by purchases
            and refunds. ``quantity`` never multiplies it.
        currency: of the amount.
        quantity: how many.
        order_id: lines with the same one are one order.
        value: a rating or another number.
        context: a map with text keys and any values; not read.
    """

    event_id: Text64
    user_id: Text128
    type: str
    ts: Millis | str
    source: Optional64 = None
    item_id: Optional128 = None
    category: Optional128 = None
    amount: Amount | str | None = None
    currency: str | None = None
    quantity: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    order_id: Optional64 = None
    session_id: Optional64 = None
    device: Optional64 = None
    country: Optional64 = None
    value: float | None = None
    context: Anything | None = None


@dataclass(slots=True, frozen=True)
class EventRules:
    """What the settings say about events.

    Attributes:
        types: the types accepted.
        currency: the shop's; another one is a dead letter.
        minor_digits: decimal digits of its minor unit.
        max_ahead_ms: event time may be so far ahead of the log's timestamp.
        max_age_ms: and so far behind; None for any.
        max_bytes: a message's size.
        salt: of the hash by which an event is known again, from 0 to 2^63 - 1. Whoever knows it can
            make up an event that is taken for another user's.

    Raises:
        ValueError: a type that is not one of ``TYPES``.
    """

    types: frozenset[str] = field(default=frozenset(TYPES))
    currency: str = "EUR"
    minor_digits: int = 2
    max_ahead_ms: int = 300_000
    max_age_ms: int | None = None
    max_bytes: int = 65_536
    salt: int = 0

    def __post_init__(self) -> None:
        strange = sorted(self.types - set(TYPES))
        if strange:
            raise ValueError(
                f"types must be among {', '.join(TYPES)}, but {', '.join(map(repr, strange))} came"
            )
