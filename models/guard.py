"""The last good state: a model that was poisoned goes back to what it was before.

An online model is one bad hour away from ruin: labels that came out wrong, a feature that went to
another scale, weights that were written by a program with an error. So a copy of a good state is
kept, **frozen**, and asked about the same matured rows as the live model, before these learn them.
The comparison is paired: a hard day is hard for both, and a world that has moved makes the copy the
worse one. Only a live model that has become worse *than it was* loses against it.

Evidence is a running sum of the live model's log-loss less the copy's less ``margin``, which starts
over whenever it falls to zero (Page's CUSUM, "Continuous inspection schemes", Biometrika 1954): it
begins where the model began to be worse, whatever was before. The model goes back when the sum is
``z`` standard errors above zero; or at once when it says something that is no probability. The
squared error is the sum of the squares that came and of those that were to be expected if the live
model were right, as in the inequality of Bercu and Touati ("Exponential inequalities for
self-normalized martingales", Annals of Applied Probability 2008). Neither alone will do where few
buy: a model that rightly says more than the copy loses a little to it on every label until a buyer
comes, and one that says less loses much at once.

What was learned a moment ago is not known to be good. So copies move up in two steps: every
``patience`` labels (sooner at the start) the **trial** copy becomes the good one, and the live
model, if nothing speaks against it and it is not worse than saying the base rate, becomes the next
trial. The good copy is thus at least ``patience`` labels old, once so many have come, and bad
labels that come in a burst of less than that cannot get into it before they are noticed.

Held by the tests, at the defaults: weights set to garbage are taken back within 200 labels; 500
flipped labels within 500 after the last of them; and no model that learned as it should was ever
set back, in 50 worlds that stay, 50 that turn slowly and 50 that turn over at once. What is lost by
going back is what was learned from the last one or two times ``patience`` labels.

Not for what is bad from the start, or got bad too slowly for the margin in two times ``patience``
labels: ``models.drift`` tells of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from models.contract import refuse_mismatch
from models.probabilities import are_probabilities, refuse_unlabelled

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
State = dict[str, Any]

FORMAT: Final = 1
"""Version of the saved form."""

CLOSEST: Final = 1e-6
"""Probabilities are taken to be at least so far from 0 and 1: one label costs at most 13.8."""

_DOUBT: Final = 2.0
"""Standard errors of evidence against the live model at which it is not copied."""

# places in what is remembered of the losses
_SUM, _SQUARES, _WEIGHT, _LIVE, _GOOD, _BASE, _HITS = range(7)
_NAMES: Final = ("sum", "squares", "weight", "live", "good", "base", "hits")


class Verdict(StrEnum):
    """What to do after a learning step.

    Attributes:
        NOTHING: go on.
        KEEP: the trial copy becomes the good one, and the live model the trial.
        RESTORE: the good copy becomes the live model, and the trial.
    """

    NOTHING = "nothing"
    KEEP = "keep"
    RESTORE = "restore"


@dataclass(slots=True, frozen=True)
class Standing:
    """How the live model does, of late.

    Attributes:
        labels: seen in all.
        live: mean log-loss of the live model; None without labels.
        good: that of the good copy on the same labels.
        base: that of saying the base rate, as it was known before each label.
        against: evidence against the live model, in standard errors; 0 without any.
        keeps, restores: how often each was decided.
    """

    labels: int
    live: float | None
    good: float | None
    base: float | None
    against: float
    keeps: int
    restores: int


class Guard:
    """Decides after each learning step what becomes of the live model and its copies.

    Args:
        margin: log-loss per label by which the live model may be worse.
        patience: labels between copies; longer than a burst of bad labels lasts.
        z: standard errors of evidence that it takes to go back.
        memory: labels after which a loss has weight 1/e in ``standing``.
        wait: labels after going back in which nothing is decided.

    Raises:
        ValueError: a setting out of range.

    >>> rng = np.random.default_rng(0)
    >>> truth = rng.uniform(0.1, 0.9, 400)
    >>> y, guard = rng.random(400) < truth, Guard()
    >>> str(guard.note(y, p_live=truth, p_good=truth))
    'keep'
    >>> str(guard.note(y, p_live=1 - truth, p_good=truth))
    'restore'
    """

    def __init__(
        self,
        margin: float = 0.01,
        patience: int = 2_000,
        z: float = 5.0,
        memory: float = 1_000.0,
        wait: int = 200,
    ) -> None:
        if not (margin >= 0.0 and patience >= 1 and z > 0.0 and memory >= 1.0 and wait >= 0):
            raise ValueError(
                "a guard needs a margin and a wait of at least 0, a z above 0, and a patience and "
                f"a memory of at least 1 label, but {margin=}, {wait=}, {z=}, {patience=} and "
                f"{memory=} came"
            )
        self.margin, self.patience, self.z = float(margin), int(patience), float(z)
        self.memory, self.wait = float(memory), int(wait)
        self._labels = 0
        self._kept_at = 0
        self._waits_until = 0
        self._keeps = 0
        self._restores = 0
        self._losses = np.zeros(len(_NAMES))

    def note(self, y: Bools, p_live: F64, p_good: F64) -> Verdict:
        """Take in a batch of matured labels after the live model has learned it, and decide.

        Args:
            y: what happened, bool[n], in order of time.
            p_live: what the live model had said before it learned them, float64[n]. Values that
                are no probabilities, such as NaN, are a reason to go back.
            p_good: what the good copy says of the same rows, float64[n].

        Raises:
            ValueError: the good copy says what is no probability, or lengths differ; nothing has
                been taken in then.
        """
        refuse_unlabelled(p_good, y)
        if p_live.shape != y.shape:
            raise ValueError(
                f"both must be asked about the same rows, but {len(p_live)} probabilities of the "
                f"live model came with {len(y)} labels"
            )
        self._labels += len(y)
        if not are_probabilities(p_live):
            return self._restore()
        columns = (np.ascontiguousarray(column) for column in (y, p_live, p_good))
        waits = max(self._waits_until - (self._labels - len(y)), 0)
        _add(*columns, self.margin, 1.0 - 1.0 / self.memory, waits, self._losses)
        return self._decide()

    def standing(self) -> Standing:
        """How the live model does beside its good copy and the base rate."""
        losses = dict(zip(_NAMES, self._losses.tolist(), strict=True))
        means = {
            name: losses[name] / losses["weight"] if losses["weight"] else None
            for name in ("live", "good", "base")
        }
        return Standing(
            labels=self._labels,
            against=self._against(),
            keeps=self._keeps,
            restores=self._restores,
            **means,
        )

    def to_state(self) -> State:
        """Plain data, for JSON or MessagePack."""
        return {
            "format": FORMAT,
            "margin": self.margin,
            "patience": self.patience,
            "z": self.z,
            "memory": self.memory,
            "wait": self.wait,
            "labels": self._labels,
            "kept_at": self._kept_at,
            "waits_until": self._waits_until,
            "keeps": self._keeps,
            "restores": self._restores,
            "losses": dict(zip(_NAMES, self._losses.tolist(), strict=True)),
        }

    @classmethod
    def from_state(cls, state: State) -> Guard:
        """What ``to_state`` wrote, bit for bit, also after JSON or MessagePack.

        Raises:
            ModelMismatch: another format.
        """
        refuse_mismatch("format of guard", state.get("format"), FORMAT)
        settings = (state[name] for name in ("margin", "patience", "z", "memory", "wait"))
        guard = cls(*settings)
        guard._labels, guard._kept_at = state["labels"], state["kept_at"]
        guard._waits_until = state["waits_until"]
        guard._keeps, guard._restores = state["keeps"], state["restores"]
        guard._losses[:] = [state["losses"][name] for name in _NAMES]
        return guard

    def _decide(self) -> Verdict:
        if self._labels < self._waits_until:
            return Verdict.NOTHING
        against = self._against()
        if against > self.z:
            return self._restore()
        if self._labels - self._kept_at < self._pause() or against > _DOUBT:
            return Verdict.NOTHING
        if self._losses[_LIVE] > self._losses[_BASE] + self.margin * self._losses[_WEIGHT]:
            return Verdict.NOTHING
        self._kept_at = self._labels
        self._keeps += 1
        return Verdict.KEEP

    def _restore(self) -> Verdict:
        self._kept_at = self._labels
        self._waits_until = self._labels + self.wait
        self._restores += 1
        # the live model's past is not that of what it becomes
        self._losses[[_SUM, _SQUARES]] = 0.0
        self._losses[_LIVE] = self._losses[_GOOD]
        return Verdict.RESTORE

    def _pause(self) -> int:
        """Labels between copies: few at the start, when the first copy knows nothing yet."""
        return min(self.patience, max(self.patience // 8, self._labels // 2))

    def _against(self) -> float:
        """The sum in standard errors."""
        total, squares = self._losses[[_SUM, _SQUARES]].tolist()
        return total / math.sqrt(squares) if squares > 0.0 else 0.0


class Copies:
    """The two copies that a guard's verdicts are about, as opaque plain states.

    Args:
        state: of the model as it begins, from its ``to_state``.

    >>> copies = Copies({"weights": "as they begin"})
    >>> copies.follow(Verdict.KEEP, lambda: {"weights": "learned"})
    >>> copies.good, copies.trial
    ({'weights': 'as they begin'}, {'weights': 'learned'})
    >>> copies.follow(Verdict.KEEP, lambda: {"weights": "poisoned"})
    >>> copies.follow(Verdict.RESTORE, lambda: {"weights": "poisoned"})
    {'weights': 'learned'}
    """

    def __init__(self, state: State) -> None:
        self.good = state
        self.trial = state

    def follow(self, verdict: Verdict, live: Callable[[], State]) -> State | None:
        """Move the copies up, or give the state to go back to.

        Args:
            verdict: of the guard. After anything but ``NOTHING`` the good copy may be another.
            live: makes a plain state of the live model; called only where a copy is taken.

        Returns:
            The state that the live model must be made from, or None to go on with it.
        """
        if verdict is Verdict.KEEP:
            self.good, self.trial = self.trial, live()
        elif verdict is Verdict.RESTORE:
            self.trial = self.good
            return self.good
        return None

    def to_state(self) -> State:
        """Both, as plain data."""
        return {"good": self.good, "trial": self.trial}

    @classmethod
    def from_state(cls, state: State) -> Copies:
        """What ``to_state`` wrote."""
        copies = cls(state["good"])
        copies.trial = state["trial"]
        return copies


@inlined
def _loss(p: float, hit: bool) -> float:
    inner = min(max(p, CLOSEST), 1.0 - CLOSEST)
    return -math.log(inner) if hit else -math.log1p(-inner)


@compiled
def _add(
    y: Bools, live: F64, good: F64, margin: float, kept: float, waits: int, losses: F64
) -> None:
    """Take in labels one by one; the first ``waits`` of them are no evidence."""
    for i in range(len(y)):
        p, q, hit = live[i], good[i], y[i]
        rate = (losses[_HITS] + 0.5) / (losses[_WEIGHT] + 1.0)
        losses[_WEIGHT] = kept * losses[_WEIGHT] + 1.0
        losses[_HITS] = kept * losses[_HITS] + hit
        losses[_LIVE] = kept * losses[_LIVE] + _loss(p, hit)
        losses[_GOOD] = kept * losses[_GOOD] + _loss(q, hit)
        losses[_BASE] = kept * losses[_BASE] + _loss(rate, hit)
        if i < waits:
            continue
        if_hit, if_not = _loss(p, True) - _loss(q, True), _loss(p, False) - _loss(q, False)
        worse = if_hit if hit else if_not
        expected = p * if_hit * if_hit + (1.0 - p) * if_not * if_not
        losses[_SUM] += worse - margin
        losses[_SQUARES] += worse * worse + expected
        if losses[_SUM] <= 0.0:
            losses[_SUM], losses[_SQUARES] = 0.0, 0.0
