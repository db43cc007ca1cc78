"""Rules at work: which items are left out, which are pushed, which have a place.

Of two rules that pin to one place, the one whose name comes first has it and the other the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from models.item_view import ItemCondition, ItemView
from models.rules import Rule, RuleError

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
U64 = NDArray[np.uint64]


@dataclass(slots=True, frozen=True)
class Pins:
    """Items that have a place in every list.

    Attributes:
        items: hashes, uint64[p].
        places: of each in a list, from 0, rising, int64[p].
    """

    items: U64
    places: NDArray[np.int64]


class Rules:
    """Rules, compiled.

    Args:
        rules: by name.

    Attributes:
        rules: the same, by name in order of the alphabet.

    Raises:
        RuleError: with the name of a rule that cannot mean anything.

    >>> Rules({"winter": Rule(exclude='tagged("summer") and')})
    Traceback (most recent call last):
    models.rules.RuleError: winter.exclude: a value must stand here, but the text ends
      tagged("summer") and
                          ^
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules = dict(sorted(rules.items()))
        self._exclude: dict[str, ItemCondition] = {}
        self._boost: dict[str, ItemCondition] = {}
        for name, rule in self.rules.items():
            if rule.exclude:
                self._exclude[name] = _compiled(f"{name}.exclude", rule.exclude)
            if rule.boost is not None:
                self._boost[name] = _compiled(f"{name}.boost.when", rule.boost.when)

    def in_force(self, now_ms: int) -> tuple[str, ...]:
        """The names of those that hold now."""
        return tuple(name for name, rule in self.rules.items() if rule.holds_at(now_ms))

    def excluded(self, view: ItemView, names: tuple[str, ...]) -> Bools:
        """Which items some rules leave out, bool[n]."""
        out = np.zeros(len(view.now_ms), dtype=np.bool_)
        for name in names:
            if name in self._exclude:
                out |= self._exclude[name].truth(view)
        return out

    def boosts(self, view: ItemView, names: tuple[str, ...]) -> F32:
        """By what some rules multiply the score of each item, float32[n]."""
        out = np.ones(len(view.now_ms), dtype=np.float32)
        for name in names:
            boost = self.rules[name].boost
            if boost is not None:
                out[self._boost[name].truth(view)] *= np.float32(boost.factor)
        return out

    def pins(self, names: tuple[str, ...]) -> Pins:
        """The items that some rules put in places; each item once, each place once."""
        at: dict[int, str] = {}
        for name in names:
            pin = self.rules[name].pin
            if pin is None:
                continue
            place = pin.place - 1
            for item in pin.items:
                if item in at.values():
                    continue
                while place in at:
                    place += 1
                at[place] = item
        places = sorted(at)
        hashes = Texts.of([at[place] for place in places]).hashes()
        return Pins(hashes, np.array(places, dtype=np.int64))


def _compiled(path: str, text: str) -> ItemCondition:
    try:
        return ItemCondition(text)
    except ValueError as error:
        raise RuleError(f"{path}: {error}") from error
