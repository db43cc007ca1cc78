"""A worker's heartbeat to its supervisor: one byte now and then through a pipe.

It is sent by the work itself, not by a thread of its own, so a worker that is stuck falls silent.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

EVERY_S: Final = 0.5


class Heart:
    """Beats into a pipe.

    Args:
        pipe: file descriptor to write to; None where nobody listens.
    """

    def __init__(self, pipe: int | None = None) -> None:
        self._pipe = pipe
        self._beaten_s = 0.0
        if pipe is not None:
            os.set_blocking(pipe, False)

    def beat(self) -> None:
        """Say that this worker is alive, at most every ``EVERY_S``."""
        if self._pipe is None:
            return
        now_s = time.monotonic()
        if now_s - self._beaten_s >= EVERY_S:
            self._beaten_s = now_s
            with suppress(OSError):  # full, or nobody reads any more
                os.write(self._pipe, b".")
