"""A view over plain data: step-wise features as timelines, decayed ones in closed form."""

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from state import decay
from state.times import FAR_MS, HOUR_MS, NEVER_MS
from state.view import Kind

T0_MS = 1_790_000_000_000
HALF_LIFE_MS = {"intent": HOUR_MS, "heat": 30 * HOUR_MS}
DEVICES = ["desktop", "mobile", "tablet"]
KINDS = {
    "orders": Kind.NUMBER,
    "ratio": Kind.NUMBER,
    "intent": Kind.DECAYED,
    "heat": Kind.DECAYED,
    "bought": Kind.TIME,
    "visit.start": Kind.TIME,
    "visit.active": Kind.FLAG,
    "visit.device": Kind.TEXT,
}
BLANK = {
    "orders": 0,
    "ratio": 0.0,
    "bought": NEVER_MS,
    "visit.start": NEVER_MS,
    "visit.active": False,
    "visit.device": -1,
}
TYPES = {Kind.NUMBER: np.float64, Kind.TIME: np.int64, Kind.FLAG: np.bool_, Kind.TEXT: np.int32}


@dataclass
class User:
    """One user.

    Attributes:
        steps: for features that step, the values from certain times on.
        terms: for decayed features, weights and their times.
    """

    steps: dict[str, list[tuple[int, object]]] = field(default_factory=dict)
    terms: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def at(self, name, t_ms):
        """The value of a stepping feature."""
        timeline = self.steps.get(name, [])
        place = bisect_right([t for t, _ in timeline], t_ms)
        return timeline[place - 1][1] if place else BLANK[name]

    def next_step_ms(self, name, t_ms):
        return min((t for t, _ in self.steps.get(name, []) if t > t_ms), default=FAR_MS)


class ArrayView:
    """The ``View`` of some users, each at a time of its own."""

    def __init__(self, users, now_ms):
        self.users = users
        self.now_ms = np.broadcast_to(np.asarray(now_ms, dtype=np.int64), len(users))

    def value(self, name):
        if KINDS[name] is Kind.DECAYED:
            return decay.at(*self._sums(name), self.now_ms, HALF_LIFE_MS[name])
        return np.array(
            [user.at(name, t) for user, t in zip(self.users, self.now_ms.tolist(), strict=True)],
            dtype=np.int8 if name == "orders" else TYPES[KINDS[name]],
        )

    def code(self, name, text):
        assert KINDS[name] is Kind.TEXT
        return DEVICES.index(text) if text in DEVICES else -2

    def text(self, name, code):
        assert KINDS[name] is Kind.TEXT
        return None if code < 0 else DEVICES[code]

    def falls_below_ms(self, name, threshold):
        assert KINDS[name] is Kind.DECAYED
        sums = self._sums(name)
        return decay.falls_below_ms(*sums, self.now_ms, HALF_LIFE_MS[name], threshold)

    def next_step_ms(self, name):
        assert KINDS[name] is not Kind.DECAYED
        pairs = zip(self.users, self.now_ms.tolist(), strict=True)
        return np.array([user.next_step_ms(name, t) for user, t in pairs], dtype=np.int64)

    def _sums(self, name):
        mantissa = np.zeros(len(self.users))
        exponent = np.full(len(self.users), decay.EMPTY_EXPONENT, dtype=np.int32)
        for i, user in enumerate(self.users):
            if user.terms.get(name):
                weights, times = zip(*user.terms[name], strict=True)
                terms = decay.terms(weights, np.array(times), HALF_LIFE_MS[name])
                decay.add_terms(np.full(len(times), i), *terms, mantissa, exponent)
        return mantissa, exponent
