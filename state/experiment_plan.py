"""What an experiment is: its arms, when it runs, what counts, and what has been ruled about it.

The **key** of an experiment stands for all that its numbers depend on: salt, arms with weights and
what they set, conversion, window, hold-out. Columns and totals carry it in their names, so that an
experiment whose definition was edited is another one and starts anew, and no number is ever
computed from two definitions. Its times, guard rails and levels may change while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

import msgspec

from events.schema import PURCHASE
from state.times import DAY_MS, FAR_MS, NEVER_MS
from state.totals import Totals

MOST_EXPERIMENTS: Final = 8
MOST_ARMS: Final = 8
CONTROL: Final = "control"
"""The arm that the others are held against; every experiment has it."""
_FORMAT: Final = 1


@dataclass(slots=True, frozen=True)
class Arm:
    """One of the things that are tried.

    Attributes:
        name: of the arm.
        weight: its share of the users, relative to those of the others.
        settings: what it changes, by the path of a setting; plain data here.
    """

    name: str
    weight: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """Something that is tried on a part of the users.

    Attributes:
        name: of the experiment.
        arms: in order; one is ``CONTROL``.
        salt: what assignment mixes with the user id; experiments of one salt assign alike.
        start_ms, stop_ms: exposures count from the first up to, not including, the second.
        conversion: type codes of the events that are a conversion.
        window_ms: outcomes count from the first exposure on for so long.
        guard_rails: measures by which an arm that is credibly worse than control is stopped.
        allocation: ``fixed``, or ``thompson``: new users go where conversions are likelier.
        alpha: how often, at most, a difference may be called one that is none.
        planned_users: exposed users of all arms at which the test sees best; it holds at any.
    """

    name: str
    arms: tuple[Arm, ...]
    salt: str = ""
    start_ms: int = NEVER_MS
    stop_ms: int = FAR_MS
    conversion: tuple[int, ...] = (PURCHASE,)
    window_ms: int = 7 * DAY_MS
    guard_rails: tuple[str, ...] = ()
    allocation: str = "fixed"
    alpha: float = 0.05
    planned_users: int = 20_000

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arms."""
        return tuple(arm.name for arm in self.arms)

    @property
    def control(self) -> int:
        """The place of the control among the arms."""
        return self.names.index(CONTROL)

    @property
    def weights(self) -> list[float]:
        """Shares of the arms, which come to 1."""
        whole = sum(arm.weight for arm in self.arms)
        return [arm.weight / whole for arm in self.arms]


@dataclass(slots=True)
class Ruling:
    """What has been ruled about an experiment from the totals of all shards.

    Attributes:
        stopped: arms that are not served any more, with the guard rail that stopped each.
        weights: shares of new users by arm; none before anything was ruled.
        figures: by arm, what is shown of it: lifts, p-values.
        sample_ratio_p: how likely the arms' sizes are if assignment works.
    """

    stopped: dict[str, str] = field(default_factory=dict)
    weights: list[float] = field(default_factory=list)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    sample_ratio_p: float = 1.0


Rulings = dict[str, Ruling]
"""By the key of the experiment."""
Judge = Callable[[Experiment, Totals, Ruling], Ruling]
"""Rules anew, from all totals and what was ruled before."""


def leave(experiment: Experiment, totals: Totals, earlier: Ruling) -> Ruling:
    """The judge who rules nothing."""
    del experiment, totals
    return earlier


@dataclass(frozen=True)
class ExperimentsPlan:
    """All experiments of a lane.

    Attributes:
        experiments: that are declared.
        holdout: share of the users who are in no experiment and get the fallback.
        holdout_salt: what chooses them.
        judge: rules about each experiment.

    >>> arms = Arm("control"), Arm("bold", 1.0, {"weights.covisits": 2.0})
    >>> plan = ExperimentsPlan((Experiment("layout", arms),))
    >>> [key[:7] for key in plan.keys]
    ['layout.']
    """

    experiments: tuple[Experiment, ...] = ()
    holdout: float = 0.0
    holdout_salt: str = "holdout"
    judge: Judge = leave

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of each experiment."""
        return tuple(self._key(experiment) for experiment in self.experiments)

    @property
    def holdout_key(self) -> str:
        """Stands for what chooses the hold-out."""
        return _digest([self.holdout, self.holdout_salt])

    def _key(self, experiment: Experiment) -> str:
        arms: Sequence[Any] = [(a.name, a.weight, dict(a.settings)) for a in experiment.arms]
        parts = [
            _FORMAT,
            experiment.salt,
            arms,
            sorted(experiment.conversion),
            experiment.window_ms,
            experiment.allocation,
            self.holdout_key,
        ]
        return f"{experiment.name}.{_digest(parts)}"


def encode_rulings(rulings: Rulings) -> bytes:
    """As lanes share them."""
    return msgspec.json.encode(rulings)


def decode_rulings(raw: bytes | None) -> Rulings:
    """What lanes share; nothing for None."""
    return msgspec.json.decode(raw, type=Rulings) if raw else {}


def _digest(parts: Sequence[Any]) -> str:
    return blake2b(msgspec.json.encode(parts, order="sorted"), digest_size=4).hexdigest()
