"""``afterglow segments preview``, ``what-if`` and ``measure``: the profiles in the store, asked."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from rich.markup import escape
from rich.table import Table

from cli.common import UserError, wide_console
from cli.segments import next_revision, opened, utc
from dataflows.durations import duration_ms, duration_text
from dataflows.measuring import Measured, measure
from dataflows.previewing import moving, preview, stored_lane, stored_lanes
from dataflows.settings import Settings
from dataflows.what_if import Course, unhurried, what_if
from models.sequential import Comparison


def preview_file(settings: Settings, file: Path, sample: int, as_json: bool) -> int:
    """Say what the definitions of a file would make of the profiles there are."""
    store, live = opened(settings)
    then = next_revision(settings, live, file)
    found = preview(stored_lane(settings, store, live), then.definitions, sample)
    if as_json:
        _print_json(asdict(found))
        return 0
    table = Table(title=f"{found.users:,} users as of {utc(found.as_of_ms)}")
    for name in ("segment", "now", "then", "enter", "leave", "such as", "then also in"):
        right = name in ("now", "then", "enter", "leave")
        table.add_column(name, justify="right" if right else "left")
    for name, line in moving(found):
        numbers = (line.before, line.after, line.entered, line.left)
        some = [*(f"+{user}" for user in line.enters), *(f"-{user}" for user in line.leaves)]
        most = sorted(line.overlap.items(), key=lambda pair: -pair[1])[:3]
        also = ", ".join(f"{other} {count / line.after:.0%}" for other, count in most)
        table.add_row(name, *(f"{n:,}" for n in numbers), escape(" ".join(some)), also)
    wide_console().print(table if table.row_count else "nobody would enter or leave any segment")
    return 0


def what_if_file(settings: Settings, file: Path, hours: int, as_json: bool) -> int:
    """Let hours pass under the definitions in force, and under those of a file."""
    store, live = opened(settings)
    then = next_revision(settings, live, file)
    copies = stored_lanes(unhurried(settings), store, live)
    found = what_if(copies, then.definitions, hours)
    if as_json:
        _print_json(asdict(found))
        return 0
    table = Table(title=f"{hours} h from {utc(found.begin_ms)}, if nobody does anything")
    table.add_column("segment")
    sides = ("in force", "edited")
    courses = [head for side in sides for head in (f"{side}: +", "-", "at the end")]
    for head in ("now", "at once", *courses):
        table.add_column(head, justify="right")
    for name, line in found.at_once.segments.items():
        at_once = f"+{line.entered:,} -{line.left:,}" if line.entered or line.left else ""
        both = (*_course(found.live.get(name)), *_course(found.edited.get(name)))
        table.add_row(name, f"{line.before:,}", at_once, *both)
    wide_console().print(table)
    return 0


def measure_segments(settings: Settings, over: str, as_json: bool) -> int:
    """Hold every segment against the rest: who bought how much in a time."""
    store, live = opened(settings)
    over_ms, kept_ms = _milliseconds(over), max(settings.rfm.window, settings.orders.keep or 0)
    if not 0 < over_ms <= kept_ms:
        raise UserError(
            f"--over must be at most {duration_text(kept_ms)}, because orders are kept so long "
            f"(orders.keep, rfm.window), but {over} came"
        )
    lane = stored_lane(settings, store, live)
    found = measure(lane, over_ms)
    if as_json:
        _print_json({name: _plain(each) for name, each in found.items()})
        return 0
    title = f"who was in it {duration_text(over_ms)} before {utc(lane.clock.now_ms)}, and since"
    table = Table(title=title)
    table.add_column("segment")
    money = settings.events.currency
    for name in ("users", "buyers", "of the rest", "lift", "95 %", f"{money} each", "rest", "lift"):
        table.add_column(name, justify="right")
    for name, each in found.items():
        table.add_row(name, *_cells(each, 10**settings.events.minor_digits))
    wide_console().print(table)
    return 0


def _milliseconds(text: str) -> int:
    try:
        return duration_ms(text)
    except ValueError as error:
        raise UserError(f"--over {error}, but {text!r} came") from None


def _course(course: Course | None) -> tuple[str, str, str]:
    if course is None:
        return "", "", ""
    return f"{sum(course.entered):,}", f"{sum(course.left):,}", f"{course.last:,}"


def _cells(each: Measured, minor: int) -> tuple[str, ...]:
    """The figures of a line; what would be said of nobody is not known."""
    users, rest = each.members or math.nan, each.rest or math.nan
    return (
        f"{each.members:,}",
        _shown(each.buyers / users, ".2%"),
        _shown(each.rest_buyers / rest, ".2%"),
        _shown(_lift(each, each.conversion), "+.1%"),
        _interval(each, each.conversion),
        _shown(each.revenue / users / minor, ",.2f"),
        _shown(each.rest_revenue / rest / minor, ",.2f"),
        _shown(_lift(each, each.worth), "+.1%"),
    )


def _lift(each: Measured, found: Comparison) -> float:
    """As a share of the rest; NaN where nobody is in the segment, or the rest has nothing."""
    return found.lift if each.members else math.nan


def _interval(each: Measured, found: Comparison) -> str:
    """Where the lift may lie; nobody buys less than nothing, so it ends at -100 %."""
    base = found.base if each.members and found.base else math.nan
    low, high = found.low / base, found.high / base
    if math.isfinite(low):
        low = max(low, -1.0)
    return f"{_shown(low, '+.1%')} to {_shown(high, '+.1%')}"


def _plain(each: Measured) -> dict[str, Any]:
    """As JSON; what is not known is null."""
    plain = asdict(each)
    for name, found in (("conversion", each.conversion), ("worth", each.worth)):
        values = {**asdict(found), "lift": _lift(each, found)}
        if not each.members:
            values["difference"] = math.nan
        plain[name] = {
            key: value if math.isfinite(value) else None for key, value in values.items()
        }
    return plain


def _shown(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


def _print_json(found: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(found)).decode())
