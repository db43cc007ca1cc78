"""What a buyer is worth: whether they still are one, and what they will spend.

From the users' columns to BG/NBD and Gamma-Gamma (``models.alive``, ``models.spend``) and back: the
parameters are fitted to a sample of the buyers from time to time, and every changed user is scored
in closed form. Every order counts as one purchase, also where a user makes several in a day.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import alive, spend
from models.alive import BgNbd
from models.contract import F64, State
from models.lifetime import WEEK_MS, Past, from_orders
from models.plan import Valuing
from models.spend import GammaGamma
from state.features import RowView
from state.learner import Score

I64 = NDArray[np.int64]

SCORES: Final = (Score("alive"), Score("expected_orders"), Score("expected_spend", "int"))
"""Probability to be a customer still; orders, and spend in minor units, within the horizon."""

_MOST: Final = 4_000
"""Buyers that a fit looks at: parameters are known to some percent, in a fraction of a second."""

_DEAREST: Final = 1e14


@dataclass(slots=True, frozen=True)
class Worth:
    """What was fitted.

    Attributes:
        alive: who is still a customer, and how often they buy; times in weeks.
        spend: what they spend on an order, in minor units; None where nobody's could be fitted.
        horizon_ms: how far ahead scores look.
        buyers: how many it was fitted to.
    """

    alive: BgNbd
    spend: GammaGamma | None
    horizon_ms: int
    buyers: int

    @classmethod
    def fitted(cls, view: RowView, plan: Valuing, last: Worth | None = None) -> Worth | None:
        """Fitted to a sample of users; None while there are too few buyers, or all are alike.

        Args:
            view: a fair sample of all users.
            plan: the horizon, and how many buyers it takes.
            last: the fit before this one, from which the search begins.
        """
        buyers = np.flatnonzero(view.value("lifetime.orders") > 0)
        if len(buyers) < plan.least:
            return None
        view = view.part(buyers[:: 1 + (len(buyers) - 1) // _MOST])
        past, paid = _past(view), _paid_per_order(view)
        try:
            fit = alive.fit(*past, start=None if last is None else last.alive)
        except ValueError:  # nobody came again, or all did the same: nothing to be learned yet
            return None
        found = None
        with suppress(ValueError):
            pays = (past.x > 0) & (paid > 0)
            start = None if last is None else last.spend
            found = spend.fit(past.x[pays] + 1, paid[pays], start=start).model
        return cls(fit.model, found, plan.horizon_ms, len(view))

    def score(self, view: RowView) -> F64:
        """The columns of ``SCORES`` for the rows of a view, float64[n, 3]; NaN for non-buyers."""
        out = np.full((len(view), len(SCORES)), np.nan)
        buyers = np.flatnonzero(view.value("lifetime.orders") > 0)
        if not len(buyers):
            return out
        view = view.part(buyers)
        past = _past(view)
        out[buyers, 0], orders = self.alive.outlook(*past, self.horizon_ms / WEEK_MS)
        out[buyers, 1] = orders
        if self.spend is not None:
            paid = _paid_per_order(view)
            out[buyers, 2] = np.rint(orders * self.spend.expected_spend(past.x + 1, paid))
        return out

    def to_state(self) -> State:
        """Everything it knows as plain data."""
        return {
            "alive": self.alive.to_state(),
            "spend": None if self.spend is None else self.spend.to_state(),
            "horizon_ms": self.horizon_ms,
            "buyers": self.buyers,
        }

    @classmethod
    def from_state(cls, state: State) -> Worth:
        """What ``to_state`` wrote.

        Raises:
            ModelMismatch: another format, or another library that defines the fit.
        """
        held = state["spend"]
        return cls(
            BgNbd.from_state(state["alive"]),
            None if held is None else GammaGamma.from_state(held),
            state["horizon_ms"],
            state["buyers"],
        )


def _past(view: RowView) -> Past:
    return from_orders(
        view.value("lifetime.orders"),
        view.value("first_order"),
        view.value("last_order"),
        view.now_ms,
    )


def _paid_per_order(view: RowView) -> F64:
    """Mean spend of each buyer's orders in minor units; what nobody pays counts as ``_DEAREST``."""
    paid = view.value("lifetime.spend") / view.value("lifetime.orders")
    out: F64 = np.minimum(paid, _DEAREST)
    return out
