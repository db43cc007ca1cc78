"""Revisions of definitions: who changed which segment when, as values.

All definitions that are in force together are one revision, and a pause is one too. Revisions are
numbered from 1 without a gap and never changed. A tag or family keeps its version while its
definition stays the same; with every change of it the version rises by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import msgspec

from state.definition_set import DefinitionSet
from state.definitions import FamilySpec, SegmentSpec

Spec = SegmentSpec | FamilySpec


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """All definitions that are in force together, and how that came.

    Attributes:
        number: from 1; 0 for settings that were never written down.
        at_ms: when.
        author: who.
        note: why, in the author's words.
        source: ``settings`` where the settings file says so, ``applied`` where a command did.
        segments, families: the definitions, in order.
        paused: names of those whose members stay as they are.
        exempt: names of those that no guard stops this time.
    """

    number: int
    at_ms: int
    author: str
    note: str = ""
    source: Literal["settings", "applied"] = "applied"
    segments: list[SegmentSpec] = []
    families: list[FamilySpec] = []
    paused: list[str] = []
    exempt: list[str] = []

    @property
    def definitions(self) -> DefinitionSet:
        """What is in force."""
        return DefinitionSet(self.segments, self.families, self.paused)

    @property
    def units(self) -> dict[str, Spec]:
        """Every tag and family by name."""
        every: list[Spec] = [*self.segments, *self.families]
        return {spec.name: spec for spec in every}

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(raw: bytes) -> Revision:
        """What ``encode`` gave."""
        return msgspec.json.decode(raw, type=Revision)


def follow(
    last: Revision,
    *,
    at_ms: int,
    author: str,
    note: str = "",
    source: Literal["settings", "applied"] = "applied",
    definitions: DefinitionSet | None = None,
    paused: Iterable[str] | None = None,
    exempt: Iterable[str] = (),
) -> Revision:
    """The next revision.

    Args:
        last: the one in force.
        at_ms: when.
        author: who.
        note: why.
        source: where the definitions come from.
        definitions: all of them; None for those in force.
        paused: what is paused from now on; None for what was, as far as it is still defined.
        exempt: what no guard stops this time.

    >>> first = follow(Revision(number=0, at_ms=0, author=""), at_ms=1, author="ann",
    ...     definitions=DefinitionSet([SegmentSpec("keen", "intent >= 4")]))
    >>> then = follow(first, at_ms=2, author="bob",
    ...     definitions=DefinitionSet([SegmentSpec("keen", "intent >= 5")]))
    >>> then.number, then.segments[0].version, *differences(first, then)
    (2, 2, 'keen: enter: intent >= 4 → intent >= 5')
    """
    wanted = definitions or last.definitions
    segments = [_versioned(last.units, spec) for spec in wanted.segments]
    families = [_versioned(last.units, spec) for spec in wanted.families]
    names = {spec.name for spec in (*segments, *families)}
    kept = last.paused if paused is None else paused
    return Revision(
        number=last.number + 1,
        at_ms=at_ms,
        author=author,
        note=note,
        source=source,
        segments=segments,
        families=families,
        paused=sorted(names.intersection(kept)),
        exempt=sorted(names.intersection(exempt)),
    )


def differences(old: Revision, new: Revision) -> list[str]:
    """What changed, a line each: added, taken out, or which part of which definition."""
    lines = []
    for name, spec in new.units.items():
        was = old.units.get(name)
        if was is None or type(was) is not type(spec):
            lines.append(f"{name}: added: {_told(spec)}")
        else:
            lines += [f"{name}: {line}" for line in _changes(was, spec)]
    for name, was in old.units.items():
        if type(new.units.get(name)) is not type(was):
            lines.append(f"{name}: taken out: {_told(was)}")
    lines += [f"{name}: paused" for name in new.paused if name not in old.paused]
    lines += [
        f"{name}: goes on" for name in old.paused if name not in new.paused and name in new.units
    ]
    if not lines and list(old.units) != list(new.units):
        lines.append(f"order: {', '.join(new.units)}")
    return lines


def _versioned(held: dict[str, Spec], spec: Any) -> Any:
    """The definition under the version that it gets: a version never falls."""
    was = held.get(spec.name)
    if was is None or type(was) is not type(spec):
        return spec
    same = _plain(was) == _plain(spec)
    return replace(spec, version=max(spec.version, was.version + (0 if same else 1)))


def _plain(spec: Spec) -> Any:
    """A definition without its version, comparable however it was made."""
    return msgspec.to_builtins(replace(spec, version=0))


def _changes(was: Spec, now: Spec) -> list[str]:
    before, after = msgspec.to_builtins(was), msgspec.to_builtins(now)
    lines = []
    for part in fields(now):
        if part.name in ("name", "version") or before[part.name] == after[part.name]:
            continue
        if part.name == "members":
            lines += _labels(dict(before["members"]), dict(after["members"]))
        else:
            lines.append(f"{part.name}: {_shown(before[part.name])} → {_shown(after[part.name])}")
    return lines


def _labels(before: dict[str, str], after: dict[str, str]) -> list[str]:
    lines = []
    for label, text in after.items():
        if label not in before:
            lines.append(f"label {label}: added: {text}")
        elif before[label] != text:
            lines.append(f"label {label}: {before[label]} → {text}")
    lines += [f"label {label}: taken out" for label in before if label not in after]
    return lines or [f"labels in another order: {', '.join(after)}"]


def _told(spec: Spec) -> str:
    if isinstance(spec, SegmentSpec):
        return spec.enter if spec.exit is None else f"{spec.enter}; exit: {spec.exit}"
    return _some([label for label, _ in spec.members])


def _some(labels: Sequence[str]) -> str:
    return f"labels {', '.join(labels)}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
