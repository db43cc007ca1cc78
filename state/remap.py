"""From one set of definitions to the next: memberships that are kept by place find their new ones.

What has the same name is the same: a tag stays a tag of that name, a label stays one if its family
still has it. Whatever else somebody was in is **lost**: it ends with the old definitions, and
whoever decides next says so in a change. Nothing is evaluated here.
"""

from __future__ import annotations

import numpy as np

from state.memberships import SegmentState
from state.naming import Naming
from state.nodes import I64
from state.times import FAR_MS, NEVER_MS


class Remap:
    """Moves memberships from the places of one naming to those of another.

    Args:
        old, new: the namings.

    Attributes:
        lost: bits of what does not go on, by place in the old naming.

    >>> remap = Remap(Naming(["a", "b"], {"f": ["x", "y"]}), Naming(["b", "c"], {"f": ["y"]}))
    >>> remap.old.named(int(remap.lost))
    ['a', 'x']
    >>> state = SegmentState(
    ...     members=np.array([0b10], np.uint64), since_ms=np.array([[5, 7]]),
    ...     family=np.array([[1]], np.int8), family_since_ms=np.array([[9]]),
    ...     flips=np.empty((1, 0), np.int64))
    >>> moved = remap.state(state)
    >>> moved.members.tolist(), moved.since_ms[0, 0].item(), moved.family.tolist()
    ([1], 7, [[0]])
    """

    def __init__(self, old: Naming, new: Naming) -> None:
        self.old, self.new = old, new
        self._tags = [_place(old.tags, name) for name in new.tags]
        self._limited = [_place(old.limited, name) for name in new.limited]
        families = list(old.families)
        self._families = [_place(families, name) for name in new.families]
        self._codes = [
            np.array(
                [*(_place(labels, label) for label in old.families.get(name, ())), -1], np.int8
            )
            for name, labels in new.families.items()
        ]
        gone = [name not in new.tags for name in old.tags]
        for name, labels in old.families.items():
            gone += [label not in new.families.get(name, ()) for label in labels]
        self.lost = np.uint64(sum(1 << place for place, is_gone in enumerate(gone) if is_gone))

    def state(self, old: SegmentState) -> SegmentState:
        """What some rows remember, in the new places."""
        n = len(old.members)
        members = np.zeros(n, dtype=np.uint64)
        since_ms = np.full((n, len(self._tags)), NEVER_MS, dtype=np.int64)
        for place, was in enumerate(self._tags):
            if was >= 0:
                members |= (old.members >> np.uint64(was) & np.uint64(1)) << np.uint64(place)
                since_ms[:, place] = old.since_ms[:, was]
        family = np.full((n, len(self._families)), -1, dtype=np.int8)
        family_since_ms = np.full((n, len(self._families)), NEVER_MS, dtype=np.int64)
        for place, was in enumerate(self._families):
            if was >= 0:
                family[:, place] = self._codes[place][old.family[:, was]]
                family_since_ms[:, place] = old.family_since_ms[:, was]
        flips = np.zeros((n, len(self._limited)), dtype=np.int64)
        for place, was in enumerate(self._limited):
            if was >= 0:
                flips[:, place] = old.flips[:, was]
        return SegmentState(members, since_ms, family, family_since_ms, flips)

    def ends(self, valid_to_ms: I64) -> I64:
        """When memberships may end, of each tag and then each family, in the new places."""
        n, was_tags = len(valid_to_ms), len(self.old.tags)
        sources = [*self._tags, *(was_tags + was if was >= 0 else -1 for was in self._families)]
        ends_ms = np.full((n, len(sources)), FAR_MS, dtype=np.int64)
        for place, was in enumerate(sources):
            if was >= 0:
                ends_ms[:, place] = valid_to_ms[:, was]
        return ends_ms


def _place(names: tuple[str, ...] | list[str], name: str) -> int:
    return names.index(name) if name in names else -1
