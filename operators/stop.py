"""Ending in good order: a signal raises a flag, the sources end, everything behind them drains."""

from __future__ import annotations

import signal
from threading import Event


class Stop:
    """A flag that sources look at between polls."""

    def __init__(self) -> None:
        self._event = Event()

    def request(self) -> None:
        """Ask the sources to end."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether the sources should end."""
        return self._event.is_set()

    def on_signals(self) -> None:
        """Raise the flag on SIGTERM and SIGINT; call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.request())
