"""All definitions of segments that are in force together, as a value with a mark."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from state.definitions import FamilySpec, SegmentSpec


@dataclass(slots=True, frozen=True)
class DefinitionSet:
    """Definitions that are in force together.

    Attributes:
        segments: the tags, in order.
        families: the families, in order.
        paused: names of tags and families whose members stay as they are.

    >>> keen = SegmentSpec("keen", "intent >= 4")
    >>> DefinitionSet([keen]).mark == DefinitionSet([keen]).mark
    True
    >>> DefinitionSet([keen]).mark == DefinitionSet([keen], paused=["keen"]).mark
    False
    """

    segments: Sequence[SegmentSpec] = ()
    families: Sequence[FamilySpec] = ()
    paused: Sequence[str] = ()

    @property
    def mark(self) -> int:
        """A number that tells it from others, and is the same on every machine; never 0."""
        parts = [list(self.segments), list(self.families), sorted(self.paused)]
        return zlib.crc32(msgspec.json.encode(parts)) or 1
