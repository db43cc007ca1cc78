"""Conditions on the fields of events, in the language of segments, for declared features."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.schema import TYPES
from events.texts import Texts
from state.conditions import compile_condition
from state.text_index import TextIndex
from state.times import FAR_MS
from state.view import Kind

I64 = NDArray[np.int64]

FIELDS: Final = {
    "type": Kind.TEXT,
    "item_id": Kind.TEXT,
    "category": Kind.TEXT,
    "device": Kind.TEXT,
    "country": Kind.TEXT,
    "source": Kind.TEXT,
    "amount": Kind.NUMBER,
    "quantity": Kind.NUMBER,
    "value": Kind.NUMBER,
}
"""What a filter may ask of an event; amounts in minor units."""


class EventFilter:
    """A condition on events, whole batches at a time.

    Args:
        where: the condition; empty lets every event pass.
    """

    def __init__(self, where: str) -> None:
        self._condition = compile_condition(where, FIELDS, ()) if where else None

    def __call__(self, batch: Batch) -> NDArray[np.bool_] | np.bool_:
        """Which events pass, bool[n], or one answer for all."""
        if self._condition is None:
            return np.True_
        return self._condition.truth(EventView(batch))


class EventView:
    """A batch's fields as the ``View`` of a condition; events do not change in silence."""

    def __init__(self, batch: Batch) -> None:
        self.now_ms = batch.ts_ms
        self._batch = batch
        self._columns: dict[str, NDArray[Any]] = {
            "type": batch.type,
            "amount": batch.amount_minor,
            "quantity": batch.quantity,
            "value": batch.value,
        }
        self._texts: dict[str, TextIndex] = {}

    def value(self, name: str) -> NDArray[Any]:
        """A field of each event; texts as codes of this batch."""
        if name not in self._columns:
            self._number(name)
        return self._columns[name]

    def code(self, name: str, text: str) -> int:
        """The code of a text in this batch; -2 where it does not occur."""
        if name == "type":
            return TYPES.index(text) if text in TYPES else -2
        found = int(self._number(name).find(Texts.of([text]))[0])
        return found if found >= 0 else -2

    def text(self, name: str, code: int) -> str | None:
        """The text behind a code."""
        if code < 0:
            return None
        return TYPES[code] if name == "type" else self._number(name)[code]

    def falls_below_ms(self, _name: str, _threshold: float, /) -> I64:
        """Never: there are no decayed fields."""
        return np.full(len(self._batch), FAR_MS, dtype=np.int64)

    def next_step_ms(self, _name: str, /) -> None:
        """Never."""

    def _number(self, name: str) -> TextIndex:
        """The texts of a column, numbered for this batch."""
        if name not in self._texts:
            held: Texts = getattr(self._batch, "item" if name == "item_id" else name)
            self._texts[name] = TextIndex()
            self._columns[name] = self._texts[name].number(held)
        return self._texts[name]
