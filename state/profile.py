"""The public document of one user: what stands where.

A MessagePack map; its contract stands in the README. Users without an order have nulls where buyers
have what belongs to orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from state.learner import Score
from state.packing import Form, Many, Slot, map_head, pack

Part = bytes | Slot | Many
Parts = list[Part]

VERSION: Final = 1
_NULL: Final = pack(None)


def profile_form(
    basis: str,
    features: Sequence[tuple[str, Literal["int", "float"]]],
    scores: Sequence[Score],
    *,
    has_offers: bool = False,
    experiments: bool = False,
) -> Form:
    """The form of the profiles of one settings file.

    Args:
        basis: the RFM basis, a constant of every document.
        features: declared features at the top level, and their kind.
        scores: what models say, null while they cannot say it.
        has_offers: whether any offers are declared.
        experiments: whether any are declared.

    A slot's column is named by its path in the document. The columns ``is_buyer`` and ``*.ends``
    say where there are values; those of ``cart.lines``, ``segments``, ``offers`` and ``experiment``
    have one for each entry.
    """
    entries: dict[str, Parts] = {
        "v": [pack(VERSION)],
        "as_of": [Slot("as_of")],
        "commit": [Slot("commit")],
        "changes": [Slot("changes")],
        "first_seen": [Slot("first_seen")],
        "last_seen": [Slot("last_seen")],
        "last_order": [Slot("last_order", when="is_buyer")],
        "lifetime": _numbers("lifetime", "events", "orders", "spend", "refunds"),
        "window": _numbers("window", "orders", "spend"),
        "decayed": _numbers("decayed", "orders", "spend", kind="float"),
        **{name: [Slot(name, kind)] for name, kind in features},
        "scores": _map(_scores(scores)),
        "offers": [Many("offers", "map", _offer())] if has_offers else [pack({})],
        "experiment": [Many("experiment", "map", _trial())] if experiments else [_NULL],
        "consent": [_NULL],
        "attributes": [pack({})],
        "user_id": [Slot("user_id", "text")],
        "cart": _map(
            {
                "items": [Slot("cart.items")],
                "touched": [Slot("cart.touched", when="cart.items")],
                "lines": [Many("cart.lines", "list", _line())],
            }
        ),
        "session": _map(
            {
                "active": [Slot("session.active", "flag")],
                "start": [Slot("session.start")],
                "end": [Slot("session.end")],
                "views": [Slot("session.views")],
                "carts": [Slot("session.carts")],
                "device": [Slot("session.device", "text")],
                "country": [Slot("session.country", "text")],
            }
        ),
        "rfm": _map(
            {
                "basis": [pack(basis)],
                "recency_days": [Slot("rfm.recency_days", when="is_buyer")],
                "r": [Slot("rfm.r", when="rfm.r")],
                "f": [Slot("rfm.f", when="rfm.f")],
                "m": [Slot("rfm.m", when="rfm.m")],
                "cuts_version": [Slot("rfm.cuts_version")],
                "label": [Slot("rfm.label", "text")],
            }
        ),
        "segments": [Many("segments", "map", _membership())],
    }
    return Form(_map(entries))


def _scores(scores: Sequence[Score]) -> dict[str, Parts]:
    slots: dict[str, Parts] = {
        score.name: [Slot(f"scores.{score.name}", score.kind, when=f"scores.{score.name}.known")]
        for score in scores
    }
    return slots | {"valid_to": [Slot("scores.valid_to")]} if scores else {}


def _line() -> list[bytes | Slot]:
    return [
        map_head(2),
        *(pack("item_id"), Slot("cart.lines.item_id", "text")),
        *(pack("added"), Slot("cart.lines.added")),
    ]


def _membership() -> list[bytes | Slot]:
    return [
        Slot("segments.name", "text"),
        map_head(3),
        *(pack("since"), Slot("segments.since")),
        *(pack("version"), Slot("segments.version")),
        *(pack("valid_to"), Slot("segments.valid_to", when="segments.ends")),
    ]


def _offer() -> list[bytes | Slot]:
    return [
        Slot("offers.head", "raw"),
        *(pack("since"), Slot("offers.since")),
        *(pack("valid_to"), Slot("offers.valid_to")),
        *(pack("given"), Slot("offers.given")),
    ]


def _trial() -> list[bytes | Slot]:
    return [Slot("experiment.name", "text"), Slot("experiment.arm", "text")]


def _numbers(prefix: str, *names: str, kind: Literal["int", "float"] = "int") -> Parts:
    return _map({name: [Slot(f"{prefix}.{name}", kind)] for name in names})


def _map(entries: dict[str, Parts]) -> Parts:
    parts: Parts = [map_head(len(entries))]
    for name, value in entries.items():
        parts += [pack(name), *value]
    return parts
