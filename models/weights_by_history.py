"""What sources of candidates are worth for newcomers, and for everybody else.

Of a user with one item, hardly more is known than what all want; with every further item the user's
own says more. One set of weights would be a compromise that is right for neither, so two are
learned, each from the users that it is for, and each in force only where it is the better one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.candidates import Candidates
from models.source_weights import Sought, SourceWeights

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class WeightsByHistory:
    """Two sets of weights.

    Args:
        settings, offset, length: see ``SourceWeights``.

    Attributes:
        newcomers: for users of whom one item is known.
        others: for those of whom more are.

    >>> weights = WeightsByHistory(np.ones(10), 0.5, length=20)
    >>> weights.in_force  # nothing is learned: those of the settings hold for everybody
    False
    >>> weights.of(np.array([True, False]))[:, 0].tolist()
    [1.0, 1.0]
    """

    def __init__(self, settings: F64, offset: float, length: int) -> None:
        self.newcomers = SourceWeights(settings, offset, length)
        self.others = SourceWeights(settings, offset, length)

    @property
    def everything(self) -> F64:
        """A weight of 1 for each source that is on, float64[sources]."""
        return self.others.everything

    @property
    def in_force(self) -> bool:
        """Whether learned weights are, for anybody."""
        return self.newcomers.in_force or self.others.in_force

    def of(self, is_new: Bools) -> F64:
        """The weights in force for some users, float64[n, sources].

        Args:
            is_new: who is a newcomer, bool[n].
        """
        return np.where(is_new[:, None], self.newcomers.current, self.others.current)

    def learns(self, is_new: Bools, enough: int) -> Bools:
        """For whom of some users fewer examples than enough have been learned, bool[n]."""
        return np.where(is_new, self.newcomers.learned < enough, self.others.learned < enough)

    def seek(self, lists: Candidates, came: I64, is_new: Bools) -> list[Sought]:
        """Look for what came in lists that were made with ``everything``.

        Args:
            lists: of n users.
            came: row of the item that each went on to, int64[n].
            is_new: who is a newcomer, bool[n].

        Returns:
            Examples of newcomers and of others, for ``learn``.
        """
        parts = (self.newcomers, is_new), (self.others, ~is_new)
        return [each.seek(lists.take(who), came[who]) for each, who in parts]

    def learn(self, some: list[Sought]) -> None:
        """Learn examples of newcomers and of others, or of others alone, in their order."""
        *newcomers, others = some
        for part in newcomers:
            self.newcomers.learn(part)
        self.others.learn(others)

    def quality(self) -> dict[str, dict[str, float | None]]:
        """By set of weights, see ``SourceWeights.quality``."""
        parts = {"sources": self.others, "sources_newcomers": self.newcomers}
        return {name: each.quality() for name, each in parts.items()}

    def to_state(self) -> dict[str, Any]:
        """Plain data."""
        return {"newcomers": self.newcomers.to_state(), "others": self.others.to_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``to_state`` gave; what a former version held for all holds for both."""
        self.newcomers.restore(state.get("newcomers", state))
        self.others.restore(state.get("others", state))
