"""What the places of memberships stand for: the names and versions of one set of definitions.

Memberships are kept by place: a bit for each tag, a number for the label of each family. Places
mean nothing without the names, so a naming is stored beside whatever has places in it, and outlives
the definitions it came from for as long as anything is still kept by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from events.compiled import compiled
from events.texts import Texts
from state.memberships import I8, U64, SegmentState
from state.nodes import I64

MOST_LISTED: Final = 50_000
"""Masks whose lists of names, a thousand bytes at most, are kept; beyond it all are made anew."""


class Naming:
    """Names by place: tags in their order, then each family's labels in theirs.

    Args:
        tags: names of the tags.
        families: the labels of each family by its name.
        versions: of every tag and label, by place; all 0 where they are not known.
        limited: the tags whose flips are counted, in the order of their columns.

    Attributes:
        names: every tag and label.

    >>> naming = Naming(["keen"], {"size": ["big", "small"]}, [1, 2, 2])
    >>> naming.named(0b101), naming.bases
    (['keen', 'small'], {'size': 1})
    >>> Naming.decode(naming.encode()).names
    ('keen', 'big', 'small')
    """

    def __init__(
        self,
        tags: Sequence[str],
        families: Mapping[str, Sequence[str]],
        versions: Sequence[int] = (),
        limited: Sequence[str] = (),
    ) -> None:
        self.tags = tuple(tags)
        self.families = {name: tuple(labels) for name, labels in families.items()}
        self.names = (*tags, *(label for labels in self.families.values() for label in labels))
        self.versions = tuple(versions) or (0,) * len(self.names)
        self.limited = tuple(limited)
        self.bases: dict[str, int] = {}
        base = len(self.tags)
        for name, labels in self.families.items():
            self.bases[name] = base
            base += len(labels)
        self._bases = np.array([*self.bases.values()], dtype=np.int64)
        self.escaped = Texts.of(self.names).escaped()
        self._listed: dict[int, bytes] = {}

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode([self.tags, self.families, self.versions, self.limited])

    @staticmethod
    def decode(raw: bytes) -> Naming:
        """What ``encode`` gave, or an earlier form of it without versions."""
        parts: list[Any] = msgspec.json.decode(raw)
        return Naming(*parts)

    def named(self, mask: int) -> list[str]:
        """The names of a mask, by place."""
        return [name for place, name in enumerate(self.names) if mask >> place & 1]

    def listed(self, mask: int) -> bytes:
        """The names of a mask as JSON."""
        found = self._listed.get(mask)
        if found is None:
            if len(self._listed) >= MOST_LISTED:
                self._listed.clear()
            found = self._listed[mask] = msgspec.json.encode(self.named(mask))
        return found

    def masks(self, state: SegmentState) -> U64:
        """The memberships of each row as bits by place, uint64[n]."""
        masks = state.members.copy()
        _add_labels(state.family, self._bases, masks)
        return masks


@compiled
def _add_labels(family: I8, bases: I64, masks: U64) -> None:
    """Set the bit of each family's label."""
    for i in range(len(masks)):
        for f in range(len(bases)):
            if family[i, f] >= 0:
                masks[i] |= np.uint64(1) << np.uint64(bases[f] + family[i, f])
