"""CPU time by step: whatever runs is booked to the innermost step that is open.

So the steps add up to the whole and none counts what another one called.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """A step, from here to the end of the block."""
        self._book()
        self._open.append(step)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def watch(self, owner: object, method: str, step: str) -> None:
        """Book every call of an object's method to a step."""
        call: Callable[..., Any] = getattr(owner, method)

        def booked(*args: Any, **named: Any) -> Any:
            with self(step):
                return call(*args, **named)

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
