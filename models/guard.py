"""The last good state: a model that was poisoned goes back to what it was before.

An online model is one bad hour away from ruin: labels that came out wrong, a feature that went to
another scale, weights that were written by a program with an error. So a copy of a good state is
kept, **frozen**, and asked about the same matured rows as the live model, before these learn them.
The comparison is paired: a hard day is hard for both, and a world that has moved makes the copy the
worse one. Only a live model that has become worse *than it was* loses against it.

Evidence is a running sum of the live model's log-loss less the copy's less ``margin``, which starts
over whenever it falls to zero (Page, "Continuous inspection schemes", Biometrika 1954): it begins
where the model began to be worse, whatever was before. The model goes back when this is ``z``
standard errors above zero in two ways, or at once when it says something that is no probability:

- by the squares of the differences that came, as for any mean;
- by what the live model itself expects to lose and how that should spread. Where few buy, a model
  that rightly says more than the copy loses a little on each label until a buyer comes. It knows
  that; a model that is wrong is surprised.

When a world turns over, live model and copy are both suddenly bad, and the live one, which is surer
of the old world, may be the worse for a while. So the margin widens by what the copy's own loss of
late is above its usual one.

What was learned a moment ago is not known to be good. So copies move up in two steps: every
``patience`` labels (sooner at the start) the **trial** copy becomes the good one and the live model
the next trial, if nothing speaks against it and it is not worse than both the copy and saying the
base rate. The good copy is thus one to two times ``patience`` labels old, and a burst of bad labels
that is shorter cannot get into it before it is noticed. What was learned since is lost by going
back.

Measured with logistic regressions of four kinds and speeds where 29 % and 5 % buy, 20 seeds each:

- weights set to garbage are taken back after some 60 labels, at most 320;
- 500 flipped labels that made the loss worse by 0.15 or more are taken back after some 100 labels
  from the last of them, at most 260; by 0.1 after some 170, once 1,400; by 0.03 not always. A model
  that recovers by itself in less than 100 labels may be left alone;
- of 2,000 models that learned as they should, over 12,000 labels each, none was set back: in worlds
  that stay, turn slowly, turn over at once, have no pattern, or change in how many buy. With a rate
  so high that its noise makes it worse than the base rate, one in seven was.

``tests/models/test_guard.py`` holds a part of this.

A world that changes altogether and back within two times ``patience`` looks like a burst of bad
labels; the model then goes back to what it knew, which did no harm. Not for what is bad from the
start, or becomes bad too slowly for the margin: ``models.drift`` tells of these.
"""

from __future__ import annotations

import math
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

_SHORT: Final = 50.0
"""Memory, in labels, of the copy's loss of late; its usual one is over ``memory``."""

# places in what is remembered of the losses
_SUM, _SQUARES, _SURPRISE, _VARIANCE, _LATELY, _WEIGHT, _LIVE, _GOOD, _BASE, _HITS = range(10)
_NAMES: Final = (
    *("sum", "squares", "surprise", "variance", "lately"),
    *("weight", "live", "good", "base", "hits"),
)


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

    It sees losses only; ``models.copies`` holds the copies and does what it decides.

    Args:
        margin: log-loss per label by which the live model may be worse.
        patience: labels between copies; longer than a burst of bad labels lasts.
        z: standard errors of evidence that it takes to go back.
        memory: labels after which a loss has weight 1/e in ``standing`` and in what is usual.
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
        z: float = 4.0,
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
        live, good = np.ascontiguousarray(p_live, dtype="f8"), np.ascontiguousarray(p_good)
        waits = max(self._waits_until - (self._labels - len(y)), 0)
        kept = 1.0 - 1.0 / self.memory
        _add(np.ascontiguousarray(y), live, good, self.margin, kept, waits, self._losses)
        return self._decide()

    def standing(self) -> Standing:
        """How the live model does beside its good copy and the base rate."""
        weight, live, good, base = self._losses[_WEIGHT : _BASE + 1].tolist()
        return Standing(
            labels=self._labels,
            live=live / weight if weight else None,
            good=good / weight if weight else None,
            base=base / weight if weight else None,
            against=self._against(),
            keeps=self._keeps,
            restores=self._restores,
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
        live, good, base = self._losses[[_LIVE, _GOOD, _BASE]].tolist()
        if live > max(good, base) + self.margin * self._losses[_WEIGHT]:
            return Verdict.NOTHING
        self._kept_at = self._labels
        self._keeps += 1
        return Verdict.KEEP

    def _restore(self) -> Verdict:
        self._kept_at = self._labels
        self._waits_until = self._labels + self.wait
        self._restores += 1
        # the live model's past is not that of what it becomes
        self._losses[: _VARIANCE + 1] = 0.0
        self._losses[_LIVE] = self._losses[_GOOD]
        return Verdict.RESTORE

    def _pause(self) -> int:
        """Labels between copies: few at the start, when the first copy knows nothing yet."""
        return min(self.patience, max(self.patience // 8, self._labels // 2))

    def _against(self) -> float:
        """The lesser of the two evidences, in standard errors."""
        total, squares, surprise, variance = self._losses[: _VARIANCE + 1]
        if not (squares and variance):
            return 0.0
        return float(min(total / math.sqrt(squares), surprise / math.sqrt(variance)))


@inlined
def _inner(p: float) -> float:
    return min(max(p, CLOSEST), 1.0 - CLOSEST)


@inlined
def _losses(p: float) -> tuple[float, float]:
    """What a probability costs if it comes true, and if not."""
    inner = _inner(p)
    return -math.log(inner), -math.log1p(-inner)


@compiled
def _add(
    y: Bools, live: F64, good: F64, margin: float, kept: float, waits: int, losses: F64
) -> None:
    """Take in labels one by one; the first ``waits`` of them are no evidence."""
    for i in range(len(y)):
        p, hit = live[i], y[i]
        (p_true, p_false), (q_true, q_false) = _losses(p), _losses(good[i])
        rate = (losses[_HITS] + 0.5) / (losses[_WEIGHT] + 1.0)
        lost_base = -math.log(_inner(rate)) if hit else -math.log1p(-_inner(rate))
        lost = q_true if hit else q_false
        usual = losses[_GOOD] / max(losses[_WEIGHT], 1.0)
        losses[_LATELY] += (lost - losses[_LATELY]) / min(_SHORT, losses[_WEIGHT] + 1.0)
        losses[_WEIGHT] = kept * losses[_WEIGHT] + 1.0
        losses[_HITS] = kept * losses[_HITS] + hit
        losses[_LIVE] = kept * losses[_LIVE] + (p_true if hit else p_false)
        losses[_GOOD] = kept * losses[_GOOD] + lost
        losses[_BASE] = kept * losses[_BASE] + lost_base
        if i < waits:
            continue
        if_hit, if_not = p_true - q_true, p_false - q_false
        worse = if_hit if hit else if_not
        losses[_SUM] += worse - margin - max(losses[_LATELY] - usual, 0.0)
        losses[_SQUARES] += worse * worse
        losses[_SURPRISE] += worse - p * if_hit - (1.0 - p) * if_not
        losses[_VARIANCE] += p * (1.0 - p) * (if_hit - if_not) ** 2
        if losses[_SUM] <= 0.0:
            losses[: _VARIANCE + 1] = 0.0
