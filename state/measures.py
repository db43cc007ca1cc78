"""All that a lane measures: the parts that keep it, and the features that name it.

The parts (orders, sessions, carts, declared sums and windows) each own their columns and say how a
batch changes them. Here they are put together, and here every name that a segment, a score or a
profile may use gets its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.compiled import come_closer, compiled
from events.schema import ADD_TO_CART, PRODUCT_VIEW
from events.texts import Texts
from state.carts import Carts
from state.declared import DecayedSum, PanesCount
from state.experiments import Experiments
from state.features import Feature, RowView, column_feature, decayed_feature
from state.groups import Groups
from state.local_time import context_features
from state.orders import Orders
from state.plan import LanePlan
from state.rfm import Cuts
from state.scoring import RfmFeatures
from state.sessions import COUNTRY, DEVICE, Sessions
from state.side import SideTable
from state.table import Column, Table
from state.text_index import TextIndex
from state.times import NEVER_MS
from state.view import Kind

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


_AHEAD: Final = 8
"""So many events before it is touched, a row is asked for."""

_SPARE_TEXTS: Final = 10_000
"""Devices, or countries, of nobody that may gather before they are dropped."""

MOST_PAIRS: Final = 100_000
"""Devices with countries whose texts are kept; beyond it all are worked out anew."""


class Part(Protocol):
    """Whatever keeps columns."""

    def columns(self) -> list[Column]:
        """Its columns."""


COLUMNS = [
    Column("events", "u4"),
    Column("first_seen", "i8", -NEVER_MS),
    Column("last_seen", "i8", NEVER_MS),
]


class Measures:
    """The features of one lane's table.

    Args:
        plan: what to measure.
        table: the lane's table; gets the columns.
    """

    def __init__(self, plan: LanePlan, table: Table) -> None:
        self.table = table
        self.rfm = RfmFeatures(plan.rfm)
        self._half_life_ms = plan.rfm.half_life_ms
        self.orders = Orders(plan.rfm.window_ms, plan.rfm.half_life_ms, plan.order_keep_ms)
        self.sessions = Sessions(plan.session_gap_ms, plan.return_gap_ms)
        self.carts = Carts(plan.cart_ttl_ms, plan.cart_lines)
        self.declared: list[DecayedSum | PanesCount] = [
            *(DecayedSum(spec) for spec in plan.decayed),
            *(PanesCount(spec) for spec in plan.panes),
        ]
        self.experiments = Experiments(plan.experiments, plan.shards)
        self.devices, self.countries = TextIndex(), TextIndex()
        self._texts: dict[tuple[int, int], bytes] = {}
        parts: list[Part] = [self.orders, self.sessions, self.carts, *self.declared]
        parts.append(self.experiments)
        for columns in (COLUMNS, *(part.columns() for part in parts)):
            table.add_columns("", columns)
        self.features = self._features() | context_features(plan.zone)

    # -- events and time ----------------------------------------------------------------------

    def update(self, groups: Groups, batch: Batch, clock_ms: int) -> None:
        """Let a batch of fresh events change every measure.

        Args:
            groups: its events by row.
            batch: the events.
            clock_ms: of the lane.
        """
        table = self.table
        seen = table["events"], table["first_seen"], table["last_seen"]
        _see(groups.index, groups.row_of, batch.ts_ms, *seen)
        self.orders.update(table, groups, batch, clock_ms)
        self._update_sessions(groups, batch)
        self.carts.update(table, groups, batch, clock_ms)
        for part in self.declared:
            part.update(table, groups, batch)
        self.experiments.update(table, groups, batch)

    def expire(self, clock_ms: int) -> I64:
        """Let go what the clock has passed; the rows that changed, int64[n]."""
        orders = self.orders.expire(self.table, clock_ms)
        carts = self.carts.expire(self.table, clock_ms)
        return np.union1d(orders, carts)

    def forget(self, rows: I64) -> None:
        """Distinct users leave: delete their entries, and count them in no experiment."""
        orders = self.orders.entries  # not listed by user, so only buyers are looked for
        for side in self.tables().values():
            some = rows if side.entries is not orders else self.buyers(rows)
            if len(some) and len(side.entries):
                side.entries.delete(side.entries.of(some)[0])
        self.experiments.forget(self.table, rows)

    def buyers(self, rows: I64) -> I64:
        """Those of some rows who have ordered."""
        found: I64 = rows[self.table["orders.count"][rows] > 0]
        return found

    def view(self, rows: I64, now_ms: I64, cuts: Cuts, ids: TextIndex) -> RowView:
        """Some rows at times of their own; a row's times must not go back."""
        self.orders.settle_rows(self.table, rows, now_ms)
        self.carts.settle_rows(self.table, rows, now_ms)
        return RowView(self.features, self.table, rows, now_ms, cuts, ids)

    # -- form in the store --------------------------------------------------------------------

    def tables(self) -> dict[str, SideTable]:
        """The side tables, by the name they have in the store."""
        orders = {name: SideTable.plain(t) for name, t in self.orders.tables().items()}
        return {**orders, "carts": SideTable(self.carts.entries, self.carts)}

    def transient(self) -> list[str]:
        """Columns that ``restore`` works out, so that they are not stored."""
        return [*self.orders.transient(), *self.carts.transient()]

    def restore(self, clock_ms: int) -> None:
        """All shards are loaded: work out what is not stored."""
        self.orders.restore(self.table, clock_ms)
        self.carts.restore(self.table, clock_ms)
        self.experiments.restore(self.table)

    def session_texts(self, device: int, country: int) -> bytes:
        """The texts of a session as they follow a state record."""
        known = self._texts.get((device, country))
        if known is None:
            if len(self._texts) >= MOST_PAIRS:  # anybody can make some up
                self._texts.clear()
            texts = (
                None if device < 0 else self.devices[device],
                None if country < 0 else self.countries[country],
            )
            known = self._texts[device, country] = msgspec.msgpack.encode(texts)
        return known

    def session_codes(self, stored: Texts) -> tuple[I32, I32]:
        """The codes of stored session texts: devices and countries, int32[n] each."""
        distinct = TextIndex()
        which = distinct.number(stored)
        pairs = map(msgspec.msgpack.decode, distinct.texts(np.arange(len(distinct))).bytes_list())
        devices, countries = zip(*pairs, strict=True) if len(distinct) else ((), ())
        return (
            self.devices.number(Texts.of(devices))[which].astype(np.int32),
            self.countries.number(Texts.of(countries))[which].astype(np.int32),
        )

    # -- inside -------------------------------------------------------------------------------

    def _update_sessions(self, groups: Groups, batch: Batch) -> None:
        is_view, is_cart = batch.type == PRODUCT_VIEW, batch.type == ADD_TO_CART
        self.sessions.update(self.table, groups, batch.ts_ms, is_view, is_cart)
        self.sessions.update_texts(
            self.table,
            groups,
            batch.ts_ms,
            batch.event_hash,
            self.devices.number(batch.device).astype(np.int32),
            self.countries.number(batch.country).astype(np.int32),
        )
        for index, column in ((self.devices, DEVICE), (self.countries, COUNTRY)):
            self._drop_spare_texts(index, self.table[column][: self.table.size])

    def _drop_spare_texts(self, index: TextIndex, codes: I32) -> None:
        """Number texts anew when most of them are nobody's any more: anybody can make some up."""
        if len(index) <= 2 * len(codes) + _SPARE_TEXTS:
            return
        used = np.unique(codes)
        moved = index.keep(used[used >= 0].astype(np.int64))
        codes[:] = np.where(codes < 0, codes, moved[codes])
        self._texts.clear()

    def _features(self) -> dict[str, Feature]:
        """Every name with its meaning."""
        return {
            "first_seen": column_feature(Kind.TIME, "first_seen"),
            "last_seen": column_feature(Kind.TIME, "last_seen"),
            "first_order": column_feature(Kind.TIME, "first_order"),
            "last_order": column_feature(Kind.TIME, "last_order"),
            "previous_order": column_feature(Kind.TIME, "previous_order"),
            "lifetime.events": column_feature(Kind.NUMBER, "events"),
            **self._order_features(),
            **self._session_features(),
            "cart.items": Feature(
                Kind.NUMBER, self._of(self.carts.items), self._of(self.carts.next_expiry_ms)
            ),
            "cart.touched": column_feature(Kind.TIME, "cart.touched"),
            **{part.spec.name: part.feature(self.table) for part in self.declared},
            **self.rfm.features(),
            **self.experiments.features(self.table),
        }

    def _order_features(self) -> dict[str, Feature]:
        orders, table, half_life_ms = self.orders, self.table, self._half_life_ms
        expiry = self._of(orders.next_expiry_ms)
        return {
            "lifetime.orders": column_feature(Kind.NUMBER, "orders.count"),
            "lifetime.spend": Feature(Kind.NUMBER, self._of(orders.lifetime_spend)),
            "lifetime.refunds": column_feature(Kind.NUMBER, "orders.refunds"),
            "window.orders": Feature(Kind.NUMBER, self._of(orders.window_orders), expiry),
            "window.spend": Feature(Kind.NUMBER, self._of(orders.window_spend), expiry),
            "decayed.orders": decayed_feature(
                lambda view: orders.decayed_orders(table, view.rows), half_life_ms
            ),
            "decayed.spend": decayed_feature(
                lambda view: orders.decayed_spend(table, view.rows), half_life_ms
            ),
        }

    def _session_features(self) -> dict[str, Feature]:
        sessions, table = self.sessions, self.table

        def at(
            measure: Callable[[Table, I64, I64], NDArray[Any]],
        ) -> Callable[[RowView], NDArray[Any]]:
            return lambda view: measure(table, view.rows, view.now_ms)

        return {
            "session.active": Feature(Kind.FLAG, at(sessions.active), at(sessions.next_step_ms)),
            "session.start": Feature(Kind.TIME, self._of(sessions.start_ms)),
            "session.end": Feature(Kind.TIME, self._of(sessions.end_ms)),
            "session.views": Feature(Kind.NUMBER, self._of(sessions.views)),
            "session.carts": Feature(Kind.NUMBER, self._of(sessions.carts)),
            "session.device": Feature(
                Kind.TEXT,
                self._of(sessions.device),
                code=_code(self.devices),
                text=self.devices.__getitem__,
            ),
            "session.country": Feature(
                Kind.TEXT,
                self._of(sessions.country),
                code=_code(self.countries),
                text=self.countries.__getitem__,
            ),
            "returned_at": Feature(Kind.TIME, self._of(sessions.returned_ms)),
        }

    def _of(self, measure: Callable[[Table, I64], Any]) -> Callable[[RowView], Any]:
        """A part's measure of table rows as a measure of a view."""
        return lambda view: measure(self.table, view.rows)


def _code(index: TextIndex) -> Callable[[str], int]:
    def code(text: str) -> int:
        known = index.number_of(text)
        return -2 if known < 0 else known

    return code


@compiled
def _see(
    index: I64, row_of: I64, ts_ms: I64, events: NDArray[np.uint32], first: I64, last: I64
) -> None:
    for k in range(len(index)):
        if k + _AHEAD < len(index):
            come_closer(first, row_of[k + _AHEAD])
        ts, row = ts_ms[index[k]], row_of[k]
        events[row] += np.uint32(1)
        first[row], last[row] = min(first[row], ts), max(last[row], ts)
