"""Ctrl-C and SIGTERM for commands that work through a file.

An exception that is raised wherever the program happens to be can be swallowed: libraries that are
called back while they load or compile print it and go on. So the first signal raises a flag that is
looked at before each piece of work, and a second one ends the command where it is.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Final, Self

from operators.stop import Stop

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts(Stop):
    """A flag that SIGINT and SIGTERM raise while it is entered; to be used in the main thread.

    Attributes:
        code: the exit code that says which of them came; 0 while none has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.code = 0

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._take) for number in _SIGNALS}
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self.code = 128 + number
        self.request()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
