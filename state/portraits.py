"""Profiles of changed rows: the lane's features laid out as the public document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from state.features import RowView, buyers
from state.packing import FALSE, NIL, TRUE, pack
from state.profile import Pieces, ProfileFormat, pack_cart, pack_country
from state.view import Kind

if TYPE_CHECKING:
    from state.lane import Lane

I64 = NDArray[np.int64]

_PLAIN: Final = (
    "first_seen",
    "last_seen",
    "last_order",
    "lifetime.events",
    "lifetime.orders",
    "lifetime.spend",
    "lifetime.refunds",
    "window.orders",
    "window.spend",
    "decayed.orders",
    "decayed.spend",
    "session.start",
    "session.end",
    "session.views",
    "session.carts",
    "rfm.recency_days",
)
_EMPTY_CART: Final = pack_cart(None, [])


class Portraits:
    """Encodes the profiles of one lane.

    Args:
        lane: whose users.
        label_family: the family whose member is shown as ``rfm.label``; None for none.
    """

    def __init__(self, lane: Lane, label_family: str | None = "rfm") -> None:
        self._lane = lane
        measures, plan = lane.measures, lane.decider.plan
        self._declared = {
            part.spec.name: measures.features[part.spec.name].kind for part in measures.declared
        }
        self._scores = [] if lane.learner is None else [lane.learner.name]
        families = [family.name for family in plan.families]
        self._family = families.index(label_family) if label_family in families else None
        self._labels = [pack(None)]
        if self._family is not None:
            self._labels = [*map(pack, plan.families[self._family].labels), pack(None)]
        self._format = ProfileFormat(
            measures.rfm.spec.basis,
            [(n, "float" if k is Kind.DECAYED else "count") for n, k in self._declared.items()],
            self._scores,
            list(zip(plan.names, plan.versions, strict=True)),
        )
        self._device_of: dict[int, bytes] = {}
        self._country_of: dict[int, bytes] = {}

    def encode(self, rows: I64, users: Sequence[str]) -> list[bytes]:
        """The documents of some rows, each at the time it was last evaluated."""
        lane = self._lane
        view = lane.view(rows, lane.table["as_of"][rows])
        columns = {name: view.value(name) for name in (*_PLAIN, *self._declared)}
        for name in self._scores:
            columns[f"scores.{name}"] = view.value(f"scores.{name}")
        is_buyer, scored = buyers(view), lane.table["rfm"][rows]
        columns |= {
            "is_buyer": is_buyer,
            "as_of": view.now_ms,
            "commit": lane.table["seq"][rows],
            "changes": lane.table["changes"][rows],
            "session.active": np.where(view.value("session.active"), TRUE, FALSE),
            "rfm.cuts_version": lane.table["cuts_version"][rows],
        }
        for place, name in enumerate(("rfm.r", "rfm.f", "rfm.m")):
            columns[name] = np.where(scored[:, place] > 0, scored[:, place], NIL)
        return self._format.encode(
            users, columns, self._pieces(view), lane.decider.memberships(rows)
        )

    def _pieces(self, view: RowView) -> Pieces:
        devices = view.value("session.device").tolist()
        countries = view.value("session.country").tolist()
        return Pieces(
            cart=self._carts(view),
            device=[self._device(code) for code in devices],
            country=[self._country(code) for code in countries],
            label=self._label(view.rows),
        )

    def _carts(self, view: RowView) -> list[bytes]:
        """The carts; only users who hold something cost more than a constant."""
        out = [_EMPTY_CART] * len(view)
        filled = np.flatnonzero(view.value("cart.items") > 0)
        if len(filled):
            touched = view.value("cart.touched")[filled].tolist()
            for i, at_ms, lines in zip(
                filled.tolist(), touched, self._lines(view, filled), strict=True
            ):
                out[i] = pack_cart(at_ms, lines)
        return out

    def _lines(self, view: RowView, filled: I64) -> list[list[tuple[str, int]]]:
        """The lines of some carts as (item, added ms), newest first."""
        carts = self._lane.measures.carts
        slots, place = carts.contents(view.rows[filled])
        out: list[list[tuple[str, int]]] = [[] for _ in range(len(filled))]
        added = carts.entries["add_ms"][slots].tolist()
        items = carts.item_ids(slots).strings()
        for at, item, added_ms in zip(place.tolist(), items, added, strict=True):
            out[at].append((item, added_ms))
        return out

    def _label(self, rows: I64) -> list[bytes]:
        if self._family is None:
            return self._labels * len(rows)
        state = self._lane.decider.plan.read(self._lane.table, rows)
        codes = state.family[:, self._family].tolist()
        return [self._labels[code] for code in codes]

    def _device(self, code: int) -> bytes:
        found = self._device_of.get(code)
        if found is None:
            found = pack(self._lane.measures.devices.text(code) if code >= 0 else None)
            self._device_of[code] = found
        return found

    def _country(self, code: int) -> bytes:
        found = self._country_of.get(code)
        if found is None:
            found = pack_country(self._lane.measures.countries.text(code) if code >= 0 else None)
            self._country_of[code] = found
        return found
