"""``afterglow segments export``: all definitions in force as the file that ``apply`` takes.

What is at its default is left out, but for the version: who puts the file into the settings of
another store keeps it. Pauses are no definitions; they stand in no file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import tomli_w

from cli.common import UserError, writable
from cli.segments import opened, utc
from dataflows.settings import Settings
from state.definitions import FamilySpec, Guard, SegmentSpec
from state.revisions import Revision

_UNITS_MS: Final = (
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
)


def export_definitions(settings: Settings, file: Path | None) -> int:
    """Write all definitions in force to a file, or to standard output."""
    if file is not None:
        writable(file, "FILE")
    _, live = opened(settings)
    text = as_toml(live)
    if file is None:
        print(text, end="")
        return 0
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from error
    print(
        f"{len(live.segments)} segments and {len(live.families)} families written to {file}; edit "
        f"it, then `afterglow segments preview {file}`"
    )
    return 0


def as_toml(live: Revision) -> str:
    """Definitions as TOML, in their order, for ``afterglow segments apply``.

    >>> print(as_toml(Revision(number=0, at_ms=0, author="settings",
    ...     segments=[SegmentSpec("keen", "intent >= 4", cooldown_ms=5_400_000)])), end="")
    # All segments and families of the settings. What is not in this file ends with `apply`.
    <BLANKLINE>
    [segments.keen]
    enter = "intent >= 4"
    cooldown = "1h30m"
    version = 1
    """
    whose = "of the settings"
    if live.number:
        whose = f"of revision {live.number}, {utc(live.at_ms)}"
    tables: dict[str, Any] = {}
    if live.segments or not live.families:
        tables["segments"] = {spec.name: _segment(spec) for spec in live.segments}
    if live.families:
        tables["families"] = {family.name: _family(family) for family in live.families}
    return (
        f"# All segments and families {whose}. What is not in this file ends with `apply`.\n\n"
        + tomli_w.dumps(tables)
    )


def _segment(spec: SegmentSpec) -> dict[str, Any]:
    table: dict[str, Any] = {"enter": spec.enter}
    if spec.exit is not None:
        table["exit"] = spec.exit
    if spec.min_dwell_ms:
        table["min_dwell"] = _duration(spec.min_dwell_ms)
    if spec.cooldown_ms:
        table["cooldown"] = _duration(spec.cooldown_ms)
    if spec.max_flips:
        table["max_flips"] = spec.max_flips
    return table | {"version": spec.version} | _guarded(spec.guard)


def _family(spec: FamilySpec) -> dict[str, Any]:
    return {"version": spec.version, "labels": dict(spec.members), **_guarded(spec.guard)}


def _guarded(guard: Guard | None) -> dict[str, Any]:
    if guard is None:
        return {}
    within = _duration(guard.within_ms)
    return {"guard": {"share": guard.share, "within": within, "least": guard.least}}


def _duration(ms: int) -> str:
    """A duration as the settings take it, nothing rounded.

    >>> _duration(129_600_250)
    '1d12h250ms'
    """
    parts = []
    for unit, unit_ms in _UNITS_MS:
        count, ms = divmod(ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
