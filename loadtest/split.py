"""CPU time by step: whatever runs is booked to the innermost step that is open.

So the steps add up to the whole and none counts what another one called. Opening and closing a step
costs some two microseconds, which is booked too.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Split:
    """Books CPU seconds of this process to named steps.

    Attributes:
        seconds: CPU seconds of each step.

    >>> split = Split()
    >>> with split("outer"), split("inner"):
    ...     pass
    >>> sorted(split.seconds)
    ['inner', 'outer']
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since_s = 0.0

    def __call__(self, step: str) -> _Step:
        """A step, from here to the end of the block."""
        return _Step(self, step)

    def open(self, step: str) -> None:
        """Book to this step from now on."""
        self._book()
        self._open.append(step)

    def close(self) -> None:
        """Book to the step before again."""
        self._book()
        self._open.pop()

    def watch(self, owner: object, method: str, step: str) -> None:
        """Book every call of an object's method to a step."""
        call: Callable[..., Any] = getattr(owner, method)

        def booked(*args: Any, **named: Any) -> Any:
            self.open(step)
            try:
                return call(*args, **named)
            finally:
                self.close()

        setattr(owner, method, booked)

    def reset(self) -> None:
        """Forget what was booked."""
        self._book()
        self.seconds.clear()

    def _book(self) -> None:
        now_s = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now_s - self._since_s
        self._since_s = now_s


class _Step:
    """A block that is booked to a step."""

    __slots__ = ("_split", "_step")

    def __init__(self, split: Split, step: str) -> None:
        self._split, self._step = split, step

    def __enter__(self) -> None:
        self._split.open(self._step)

    def __exit__(self, *_: object) -> None:
        self._split.close()
