"""Who answers, the champion or a challenger: decided by log-loss on labels as they mature.

All models are asked for the same row before any of them learns its label, so their losses are
**paired**: what makes a row hard is the same for all and falls out of the difference. Of each
difference a decayed mean and variance are kept, and another model takes over when its mean loss is
lower by ``z`` standard errors. The way back asks for the same, so a lead that comes and goes does
not move anybody.

Whoever looks again and again will some day see three standard errors of nothing. So there is one
look in ``least`` labels; and the standard error counts the decayed weights as labels, though a
decayed mean is as steady as one of twice as many, which leaves later looks hardly a chance. A test
counts how often equal models change places.

A model that is too sure of the usual outcome wins a little on each label until the other outcome
comes, and no variance tells. So both outcomes must have come ``rare`` times within the memory.

Decayed mean and variance: West, "Updating mean and variance estimates", CACM 22(9), 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract import F64, State, refuse_mismatch, refuse_names

Bools = NDArray[np.bool_]

FORMAT: Final = 1
"""Version of the saved form."""

_CLAMP: Final = 1e-6
"""A certainty that was wrong costs 14 and not infinity, which would stay in the mean for ever."""


class Contest:
    """Says which of some models is to be believed.

    Not for models that are asked about different rows, nor for a gain other than log-loss.

    Args:
        names: of the models; the first is the champion, who leads at the start.
        memory: labels after which one counts a third (1/e) of what it did.
        least: labels before anybody can take over, and between looks.
        z: standard errors by which a mean loss must be lower.
        rare: labels of the rarer outcome, decayed, that a decision needs; in the long run there
            are ``memory`` times its rate.

    Raises:
        ValueError: no names or one given twice, or numbers with which nobody could ever win.

    >>> contest = Contest(["line", "tree"], least=500)
    >>> y = np.arange(1_000) % 4 == 0
    >>> line, tree = np.full(1_000, 0.25), np.where(y, 0.7, 0.2)
    >>> contest.note_many(y, np.column_stack([line, tree]))
    >>> contest.leader()
    'tree'
    >>> contest.note_many(y, np.column_stack([tree, line]))
    >>> contest.leader()
    'line'
    """

    def __init__(
        self,
        names: Sequence[str],
        memory: int = 2_000,
        least: int = 500,
        z: float = 3.0,
        rare: int = 10,
    ) -> None:
        refuse_names(names)
        if not (least >= 1 and z >= 0.0 and memory >= 2 * rare >= 0 and memory >= 1):
            raise ValueError(
                "a contest needs least of at least 1, z of at least 0, and a memory that holds "
                f"rare labels of both outcomes, but {memory=}, {least=}, {z=}, {rare=} came"
            )
        self.names = tuple(names)
        self.memory, self.least, self.z, self.rare = memory, least, z, rare
        self.count = 0
        self._leader = 0
        self._outcomes = [0.0, 0.0]
        """Decayed number of labels that were False, and True."""
        self._means: F64 = np.zeros((len(names), len(names)))
        """By how much the column's loss is lower than the row's."""
        self._squares: F64 = np.zeros_like(self._means)
        """Decayed sum of squares around that mean."""

    def leader(self) -> str:
        """The name of the model to be believed now."""
        return self.names[self._leader]

    def leads(self) -> dict[str, float]:
        """By how much each model's decayed mean log-loss is lower than the champion's."""
        return dict(zip(self.names, self._means[0].tolist(), strict=True))

    def note(self, y: bool, p: Sequence[float] | F64) -> None:
        """What happened, and the probability of True that each model gave before it was known.

        Raises:
            ValueError: not one probability per model, or one that is not within 0 and 1.
        """
        self.note_many(np.array([y], dtype=np.bool_), np.array([p], dtype=np.float64))

    def note_many(self, y: Bools, P: F64) -> None:
        """The same for labels in their order; equal to noting one after the other.

        Args:
            y: what happened, bool[n].
            P: what each model said before, float64[n, m], columns in the order of ``names``.
        """
        self._refuse_unfit(y, P)
        given = np.clip(np.where(y[:, None], P, 1.0 - P), _CLAMP, 1.0)
        for label, losses in zip(y.tolist(), -np.log(given), strict=True):
            self._add(label, losses[:, None] - losses)
            if self.count % self.least == 0:
                self._decide()

    def to_state(self) -> State:
        """Plain data, for JSON or MessagePack."""
        return {
            "format": FORMAT,
            "names": list(self.names),
            "memory": self.memory,
            "least": self.least,
            "z": self.z,
            "rare": self.rare,
            "count": self.count,
            "leader": self.leader(),
            "outcomes": list(self._outcomes),
            "means": self._means.tolist(),
            "squares": self._squares.tolist(),
        }

    @classmethod
    def from_state(cls, state: State, names: Sequence[str] | None = None) -> Contest:
        """What ``to_state`` wrote, bit for bit.

        Raises:
            ModelMismatch: another format, or other names.
        """
        wanted = list(state.get("names", []) if names is None else names)
        refuse_mismatch("format", state.get("format"), FORMAT)
        refuse_mismatch("list of contestants", state.get("names"), wanted)
        contest = cls(wanted, state["memory"], state["least"], state["z"], state["rare"])
        contest.count = state["count"]
        contest._leader = wanted.index(state["leader"])
        contest._outcomes = list(state["outcomes"])
        contest._means = np.array(state["means"], dtype=np.float64)
        contest._squares = np.array(state["squares"], dtype=np.float64)
        return contest

    def _add(self, y: bool, gains: F64) -> None:
        """One label, and by how much each column's loss was lower than each row's."""
        kept = 1.0 - 1.0 / self.memory
        no, yes = self._outcomes
        self._outcomes = [no * kept + (not y), yes * kept + y]
        apart = gains - self._means
        self._means += apart / sum(self._outcomes)
        self._squares *= kept
        self._squares += apart * (gains - self._means)
        self.count += 1

    def _decide(self) -> None:
        """Let the model take over whose mean loss is lowest among those with the evidence."""
        if min(self._outcomes) < self.rare:
            return
        weight = sum(self._outcomes)
        lead, squares = self._means[self._leader], self._squares[self._leader]
        proven = lead > self.z * np.sqrt(squares / weight / weight)
        if proven.any():
            self._leader = int(np.argmax(np.where(proven, lead, -np.inf)))

    def _refuse_unfit(self, y: Bools, P: F64) -> None:
        m = len(self.names)
        if P.ndim != 2 or P.shape != (len(y), m):
            raise ValueError(f"P must have the shape ({len(y)}, {m}), but {P.shape} came")
        if not bool(((P >= 0.0) & (P <= 1.0)).all()):
            i, j = np.argwhere(~((P >= 0.0) & (P <= 1.0)))[0].tolist()
            raise ValueError(
                f"probabilities must lie between 0 and 1, but {self.names[j]} gave {P[i, j]} "
                f"for label {i}"
            )
