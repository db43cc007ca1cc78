"""The public document of one user, encoded for all changed rows of a commit at once.

A MessagePack map; its contract stands in the README. Nearly all of it is numbers of fixed width,
which ``Template`` fills in column by column. Texts, the cart and the segments vary in length, so
each nested map keeps its varying part last, and a document is a short alternation of both::

    fixed numbers … user_id | cart | session numbers … device | country | rfm … label | segments

Users without an order have nulls where buyers have numbers: two forms of the parts concerned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from state.packing import NIL, Slot, Template, map_head, pack, ragged
from state.times import FAR_MS

I64 = NDArray[np.int64]
Parts = list[bytes | Slot]

VERSION: Final = 1
NOTHING: Final = bytes([NIL])
"""A null, ready to be a piece."""


@dataclass(slots=True, frozen=True)
class Membership:
    """The rows that are in one segment, with since and until when in silence.

    Attributes:
        index: positions within the encoded rows, int64[k].
        since_ms: int64[k].
        valid_to_ms: earliest time at which silence may end it, int64[k]; ``FAR_MS`` for never.
    """

    index: I64
    since_ms: I64
    valid_to_ms: I64


@dataclass(slots=True, frozen=True)
class Pieces:
    """What varies in length, already MessagePack, n each.

    Attributes:
        cart: the whole cart map, see ``pack_cart``.
        device, country: text or null of the session.
        label: text or null of the RFM label.
    """

    cart: Sequence[bytes]
    device: Sequence[bytes]
    country: Sequence[bytes]
    label: Sequence[bytes]


class ProfileFormat:
    """Encodes the profiles of one settings file.

    Args:
        basis: the RFM basis, a constant of every document.
        features: declared features at the top level: name and slot kind (``float``, ``count``).
        scores: names of model scores.
        segments: every segment and family member with its version, in the plan's order.
    """

    def __init__(
        self,
        basis: str,
        features: Sequence[tuple[str, str]],
        scores: Sequence[str],
        segments: Sequence[tuple[str, int]],
    ) -> None:
        self._head = {buyer: Template(_head(features, scores, buyer)) for buyer in (True, False)}
        self._session = Template(_session())
        self._rfm = {buyer: Template(_rfm(basis, buyer)) for buyer in (True, False)}
        self._segments_head = Template([pack("segments"), Slot("segment_count", "map")])
        self._segments = [
            (
                Template(_membership(name, version, True)),
                Template(_membership(name, version, False)),
            )
            for name, version in segments
        ]

    def encode(
        self,
        users: Sequence[str],
        columns: Mapping[str, NDArray[Any]],
        pieces: Pieces,
        memberships: Sequence[Membership],
    ) -> list[bytes]:
        """The documents of n users.

        Args:
            users: user ids, n.
            columns: the slots' columns, n each, and ``is_buyer`` bool[n], which chooses the form.
            pieces: what varies in length.
            memberships: one per segment, in the order given to the constructor.
        """
        n = len(users)
        return list(
            map(
                b"".join,
                zip(
                    _by_form(self._head, columns, n),
                    map(pack, users),
                    pieces.cart,
                    self._session.fill(columns, n),
                    pieces.device,
                    pieces.country,
                    _by_form(self._rfm, columns, n),
                    pieces.label,
                    self._pack_segments(memberships, n),
                    strict=True,
                ),
            )
        )

    def _pack_segments(self, memberships: Sequence[Membership], n: int) -> list[bytes]:
        count = np.zeros(n, dtype=np.int64)
        for held in memberships:
            count[held.index] += 1
        pieces = [(np.arange(n), self._segments_head.matrix({"segment_count": count}, n))]
        for held, (ending, lasting) in zip(memberships, self._segments, strict=True):
            far = held.valid_to_ms >= FAR_MS
            for template, mask in ((ending, ~far), (lasting, far)):
                index = held.index[mask]
                if len(index):
                    times = {"since": held.since_ms[mask], "valid_to": held.valid_to_ms[mask]}
                    pieces.append((index, template.matrix(times, len(index))))
        return ragged(n, pieces)


def pack_cart(touched_ms: int | None, lines: Sequence[tuple[str, int]]) -> bytes:
    """One user's cart: when it was touched, and its lines as (item, added ms)."""
    shown = [{"item_id": item, "added": added} for item, added in lines]
    return _CART + pack({"items": len(shown), "touched": touched_ms, "lines": shown})


def pack_country(text: str | None) -> bytes:
    """The piece of one country, its key included."""
    return pack("country") + pack(text)


_CART: Final = pack("cart")


def _by_form(
    forms: Mapping[bool, Template], columns: Mapping[str, NDArray[Any]], n: int
) -> Sequence[bytes]:
    """Fill the buyers' form for buyers and the other form for the others."""
    is_buyer = columns["is_buyer"]
    if is_buyer.all():
        return forms[True].fill(columns, n)
    out = np.empty(n, dtype=object)
    for form, mask in ((True, is_buyer), (False, ~is_buyer)):
        index = np.flatnonzero(mask)
        chosen = {name: columns[name][index] for name in forms[form].slots}
        out[index] = np.array([*forms[form].fill(chosen, len(index)), None], dtype=object)[:-1]
    return out.tolist()


def _head(features: Sequence[tuple[str, str]], scores: Sequence[str], buyer: bool) -> Parts:
    """From the start of the document to the key of the user id."""
    entries: dict[str, Parts] = {
        "v": [pack(VERSION)],
        "as_of": [Slot("as_of")],
        "commit": [Slot("commit", "count")],
        "changes": [Slot("changes", "count")],
        "first_seen": [Slot("first_seen")],
        "last_seen": [Slot("last_seen")],
        "last_order": [Slot("last_order") if buyer else NOTHING],
        "lifetime": _map("lifetime", events="count", orders="count", spend="int", refunds="int"),
        "window": _map("window", orders="count", spend="int"),
        "decayed": _map("decayed", orders="float", spend="float"),
        **{name: [Slot(name, kind)] for name, kind in features},
        "scores": _map("scores", **dict.fromkeys(scores, "float")),
        "offers": [pack([])],
        "experiment": [NOTHING],
        "consent": [NOTHING],
        "attributes": [pack({})],
    }
    # user_id, cart, session, rfm and segments follow
    parts: Parts = [map_head(len(entries) + 5)]
    for name, value in entries.items():
        parts += [pack(name), *value]
    return [*parts, pack("user_id")]


def _session() -> Parts:
    numbers = {"active": "byte", "start": "int", "end": "int", "views": "count", "carts": "count"}
    parts: Parts = [pack("session"), map_head(len(numbers) + 2)]
    for name, kind in numbers.items():
        parts += [pack(name), Slot(f"session.{name}", kind)]
    return [*parts, pack("device")]


def _rfm(basis: str, buyer: bool) -> Parts:
    return [
        pack("rfm"),
        map_head(7),
        *(pack("basis"), pack(basis)),
        *(pack("recency_days"), Slot("rfm.recency_days", "count") if buyer else NOTHING),
        *(pack("r"), Slot("rfm.r", "byte")),
        *(pack("f"), Slot("rfm.f", "byte")),
        *(pack("m"), Slot("rfm.m", "byte")),
        *(pack("cuts_version"), Slot("rfm.cuts_version", "count")),
        pack("label"),
    ]


def _membership(name: str, version: int, ending: bool) -> Parts:
    return [
        pack(name),
        map_head(3),
        *(pack("since"), Slot("since")),
        *(pack("version"), pack(version)),
        *(pack("valid_to"), Slot("valid_to") if ending else NOTHING),
    ]


def _map(prefix: str, **kinds: str) -> Parts:
    parts: Parts = [map_head(len(kinds))]
    for name, kind in kinds.items():
        parts += [pack(name), Slot(f"{prefix}.{name}", kind)]
    return parts
