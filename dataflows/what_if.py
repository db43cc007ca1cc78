"""What if: other definitions beside those in force, over the hours to come.

Two copies are made of what the store held at one moment, so that they differ in nothing else. One
goes over to the other definitions at once; then time passes in both, and nobody acts. What silence
brings about (a score that falls, a window that ends, a dwell that is over) happens in both to the
millisecond, as it would in the engine. What customers will do is not foretold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dataflows.previewing import Preview, preview
from dataflows.settings import Settings
from state.definition_set import DefinitionSet
from state.lane import Lane

_STEP_MS = 300_000
"""Time passes so much at a step; timers fire at their own times all the same."""


@dataclass(slots=True)
class Course:
    """What becomes of one segment under one set of definitions.

    Attributes:
        first, last: members at the beginning, after the change of definitions, and at the end.
        entered, left: how many come in and go out in between, hour by hour.
    """

    first: int = 0
    last: int = 0
    entered: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)


@dataclass(slots=True)
class WhatIf:
    """Both courses of every segment.

    Attributes:
        begin_ms: the clock of the stored shards, where both begin.
        hours: how long they go on.
        at_once: what the change itself brings about.
        live, edited: by segment, under the definitions in force and under the others.
    """

    begin_ms: int
    hours: int
    at_once: Preview
    live: dict[str, Course]
    edited: dict[str, Course]


def unhurried(settings: Settings) -> Settings:
    """Settings under which a step of time fires all that is due, however much it is."""
    lane = settings.lane.model_copy(update={"timer_budget": 2**40, "timer_step": 1})
    return settings.model_copy(update={"lane": lane})


def what_if(open_copy: Callable[[], Lane], definitions: DefinitionSet, hours: int) -> WhatIf:
    """Let some hours pass twice.

    Args:
        open_copy: gives a lane of everything in the store, ``unhurried``; the same each time,
            whatever has become of the store since (``previewing.stored_lanes``).
        definitions: the others.
        hours: how many.
    """
    lane = _settled(open_copy())
    begin_ms, at_once = lane.clock.now_ms, preview(lane, definitions)
    live = _pass(lane, begin_ms, hours)
    del lane  # one at a time: they may be large
    lane = _settled(open_copy())
    lane.decider.waiting.clear()
    lane.adopt(definitions)
    lane.catch_up()
    return WhatIf(begin_ms, hours, at_once, live, _pass(lane, begin_ms, hours))


def _settled(lane: Lane) -> Lane:
    """With all decided that is due, such as scores by the newest cuts: no change's doing."""
    lane.finish(lane.clock.now_ms)
    return lane


def _pass(lane: Lane, begin_ms: int, hours: int) -> dict[str, Course]:
    """Let hours pass in a lane in which nobody acts."""
    lane.decider.waiting.clear()
    names, sizes = lane.decider.plan.names, lane.decider.sizes.tolist()
    courses = {name: Course(first=size) for name, size in zip(names, sizes, strict=True)}
    for hour in range(1, hours + 1):
        end_ms = begin_ms + hour * 3_600_000
        for now_ms in range(end_ms - 3_600_000 + _STEP_MS, end_ms + 1, _STEP_MS):
            lane.clock.restore(now_ms)
            lane.tick()
        for course in courses.values():
            course.entered.append(0)
            course.left.append(0)
        for change in lane.decider.waiting:
            course = courses[change.segment]
            side = course.entered if change.action == "entered" else course.left
            side[-1] += 1
        lane.decider.waiting.clear()
    for name, size in zip(names, lane.decider.sizes.tolist(), strict=True):
        courses[name].last = size
    return courses
