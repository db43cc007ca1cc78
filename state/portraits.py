"""Profiles of changed rows: the lane's features laid out as the public document."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.features import RowView, buyers
from state.lane_users import LaneUsers
from state.profile import profile_form
from state.scoring import days_since_order
from state.times import FAR_MS
from state.view import Kind

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
    "session.active",
    "session.start",
    "session.end",
    "session.views",
    "session.carts",
    "cart.items",
    "cart.touched",
)


class Portraits:
    """Encodes the profiles of one lane.

    Args:
        lane: whose users.
        label_family: the family whose member is shown as ``rfm.label``; None for none.
    """

    def __init__(self, lane: LaneUsers, label_family: str | None = "rfm") -> None:
        self._lane, self._label_family = lane, label_family
        self.renew()

    def renew(self) -> None:
        """The segments in force are other ones."""
        lane, label_family = self._lane, self._label_family
        measures, plan = lane.measures, lane.decider.plan
        self._declared = {
            part.spec.name: measures.features[part.spec.name].kind for part in measures.declared
        }
        self._scores = [] if lane.learner is None else list(lane.learner.scores)
        families = [family.name for family in plan.families]
        self._family = families.index(label_family) if label_family in families else None
        labels = () if self._family is None else plan.families[self._family].labels
        self._labels = Texts.of([*labels, None])
        self._names, self._versions = Texts.of(plan.names), np.array([*plan.versions, 0])
        self._form = profile_form(
            measures.rfm.spec.basis,
            [(n, "float" if k is Kind.DECAYED else "int") for n, k in self._declared.items()],
            self._scores,
            has_offers=lane.offering is not None,
            experiments=len(measures.experiments) > 0,
        )

    def encode(self, rows: I64) -> Texts:
        """The documents of some rows, each at the time it was last evaluated."""
        lane = self._lane
        view = lane.view(rows, lane.table["as_of"][rows])
        columns: dict[str, NDArray[Any]] = {
            name: view.value(name) for name in (*_PLAIN, *self._declared)
        }
        self._add_scores(view, columns)
        scored = lane.table["rfm"][rows]
        columns |= {
            "is_buyer": buyers(view),
            "as_of": view.now_ms,
            "commit": lane.table["seq"][rows],
            "changes": lane.table["changes"][rows],
            "rfm.recency_days": days_since_order(view),
            "rfm.cuts_version": lane.table["cuts_version"][rows],
            **{f"rfm.{name}": scored[:, place] for place, name in enumerate("rfm")},
        }
        measures = lane.measures
        texts = {
            "user_id": lane.users.ids.texts(rows),
            "session.device": measures.devices.texts(view.value("session.device")),
            "session.country": measures.countries.texts(view.value("session.country")),
            "rfm.label": self._label(rows),
        }
        bounds = {
            "cart.lines": self._add_lines(view, columns, texts),
            "segments": self._add_segments(rows, columns, texts),
            "offers": self._add_offers(rows, columns, texts),
        }
        if len(measures.experiments):
            bounds["experiment"] = self._add_experiments(view, texts)
        return self._form.fill(columns, texts, bounds)

    def _add_scores(self, view: RowView, columns: dict[str, NDArray[Any]]) -> None:
        """The scores, which of them are known, and how long they hold."""
        learner = self._lane.learner
        if learner is None:
            return
        columns["scores.valid_to"] = view.now_ms + learner.validity_ms
        for score in self._scores:
            name = f"scores.{score.name}"
            value = view.value(name)
            known = ~np.isnan(value)
            columns[name], columns[f"{name}.known"] = np.where(known, value, 0), known

    def _label(self, rows: I64) -> Texts:
        if self._family is None:
            return Texts.absent(len(rows))
        return self._labels.take(self._lane.table["segments.family"][rows, self._family])

    def _add_lines(
        self, view: RowView, columns: dict[str, NDArray[Any]], texts: dict[str, Texts]
    ) -> I64:
        """The cart lines as columns, newest first in each cart; where each row's begin and end."""
        carts = self._lane.measures.carts
        filled = np.flatnonzero(columns["cart.items"] > 0)
        slots, place = carts.contents(view.rows[filled])
        columns["cart.lines.added"] = carts.entries["add_ms"][slots]
        texts["cart.lines.item_id"] = carts.item_ids(slots)
        return _bounds(filled[place], len(view))

    def _add_segments(
        self, rows: I64, columns: dict[str, NDArray[Any]], texts: dict[str, Texts]
    ) -> I64:
        """The memberships as columns; where each row's begin and end."""
        held = self._lane.decider.held(rows)
        ends = held.valid_to_ms < FAR_MS
        columns |= {
            "segments.since": held.since_ms,
            "segments.version": self._versions[held.segment],
            "segments.valid_to": held.valid_to_ms,
            "segments.ends": ends,
        }
        texts["segments.name"] = self._names.take(held.segment)
        return _bounds(held.index, len(rows))

    def _add_offers(
        self, rows: I64, columns: dict[str, NDArray[Any]], texts: dict[str, Texts]
    ) -> I64:
        """The offers that stand as columns; where each row's begin and end."""
        offering = self._lane.offering
        if offering is None:
            return _bounds(np.empty(0, dtype=np.int64), len(rows))
        standing = offering.standing(rows)
        columns |= {
            "offers.since": standing.since_ms,
            "offers.valid_to": standing.valid_to_ms,
            "offers.given": standing.given,
        }
        texts["offers.head"] = offering.heads.take(standing.offer)
        return _bounds(standing.index, len(rows))

    def _add_experiments(self, view: RowView, texts: dict[str, Texts]) -> I64:
        """The arms as texts; where each row's begin and end."""
        experiments, table = self._lane.measures.experiments, self._lane.table
        place, names, arms = experiments.entries(table, view.rows, view.now_ms)
        texts["experiment.name"], texts["experiment.arm"] = names, arms
        return _bounds(place, len(view))


def _bounds(row: I64, rows: int) -> I64:
    """Where the entries of each row begin and end, of entries in the order of their rows."""
    return np.searchsorted(row, np.arange(rows + 1)).astype(np.int64)
