"""The Open Bandit log: what one policy would have earned, from the log of the other.

Two policies chose fashion items on one shop's page at the same time: one at random, one by
Thompson sampling ("bts"). Of each the log has what was chosen, how likely that was, and whether it
was clicked. So what is estimated of the random policy from the other's log can be held against what
the random policy itself earned. Saito et al., "Open Bandit Dataset and Pipeline", 2021.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.off_policy import Estimate, clipped, direct, doubly_robust, ips, mean, snips

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_MOST = 50.0
"""Weight above which it is clipped, where it is."""
_PRIOR_ROWS = 500.0
"""How strongly an item's rate is pulled to that of all."""


@dataclass(slots=True, frozen=True)
class Log:
    """One policy's log of one campaign, n rows.

    Attributes:
        item, position: numbers from 0.
        click: 0 or 1.
        propensity: the likelihood of the choice.
        items: how many there are.
    """

    item: I64
    position: I64
    click: F64
    propensity: F64
    items: int


@dataclass(slots=True, frozen=True)
class Judged:
    """A policy's value by its own log and by the other's."""

    campaign: str
    policy: str
    own: Estimate
    estimates: dict[str, Estimate]

    def agrees(self, name: str) -> bool:
        """Whether the interval of the difference of an estimate from the own mean holds zero."""
        found = self.estimates[name]
        half = math.hypot(found.high - found.value, self.own.high - self.own.value)
        return abs(found.value - self.own.value) <= half


def read(path: Path) -> dict[tuple[str, str], Log]:
    """The logs by campaign and policy."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    out = {}
    for campaign in sorted({row["category"] for row in rows}):
        names = sorted({row["item_id"] for row in rows if row["category"] == campaign})
        number = {name: place for place, name in enumerate(names)}
        for policy in ("random", "bts"):
            own = [r for r in rows if (r["category"], r["policy"]) == (campaign, policy)]
            out[campaign, policy] = Log(
                item=np.array([number[r["item_id"]] for r in own]),
                position=np.array([int(r["position"]) - 1 for r in own]),
                click=np.array([float(r["click"]) for r in own]),
                propensity=np.array([float(r["propensity"]) for r in own]),
                items=len(names),
            )
    return out


def judged(path: Path) -> Iterator[Judged]:
    """The random policy from the other's log; and the other way round, as far as that goes.

    The log does not say how likely the other policy would have made what the random one chose; its
    mean likelihood of that item at that position stands for it.
    """
    logs = read(path)
    for campaign in sorted({campaign for campaign, _ in logs}):
        random, bts = logs[campaign, "random"], logs[campaign, "bts"]
        even = np.full((3, random.items), 1.0 / random.items)
        yield Judged(campaign, "random", mean(random.click), _estimates(bts, even))
        yield Judged(campaign, "bts", mean(bts.click), _estimates(random, _mean_choice(bts)))


def _estimates(log: Log, policy: F64) -> dict[str, Estimate]:
    """Of a policy, float64[positions, items], from the log of another."""
    weight = policy[log.position, log.item] / log.propensity
    predicted, expected = _cross_fitted(log, policy)
    return {
        "IPS": ips(log.click, weight),
        "SNIPS": snips(log.click, weight),
        "SNIPS, clipped": snips(log.click, clipped(weight, _MOST)),
        "direct": direct(expected),
        "doubly robust": doubly_robust(log.click, weight, predicted, expected),
        "doubly robust, clipped": doubly_robust(
            log.click, clipped(weight, _MOST), predicted, expected
        ),
    }


def _cross_fitted(log: Log, policy: F64) -> tuple[F64, F64]:
    """What a model of the other half of the log expects of each row's choice, and of the policy."""
    half = np.arange(len(log.click)) % 2
    predicted, expected = np.empty(len(half)), np.empty(len(half))
    for fold in (0, 1):
        rate = _rates(log, half != fold)
        own = half == fold
        predicted[own] = rate[log.item[own]]
        expected[own] = (policy[log.position[own]] * rate).sum(axis=1)
    return predicted, expected


def _rates(log: Log, rows: NDArray[np.bool_]) -> F64:
    """Each item's click rate, pulled to that of all."""
    clicks = np.bincount(log.item[rows], log.click[rows], minlength=log.items)
    shown = np.bincount(log.item[rows], minlength=log.items)
    base = log.click[rows].mean()
    out: F64 = (clicks + _PRIOR_ROWS * base) / (shown + _PRIOR_ROWS)
    return out


def _mean_choice(log: Log) -> F64:
    """How often the policy chose each item at each position, float64[positions, items]."""
    counts = np.zeros((3, log.items))
    np.add.at(counts, (log.position, log.item), 1.0)
    out: F64 = counts / counts.sum(axis=1, keepdims=True)
    return out
