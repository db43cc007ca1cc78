"""The log: one line for each thing that happens, on standard error.

A line is ``key=value`` pairs or a JSON object: the time, the level, the name of the event, and what
there is to know of it. Names are fixed and stand in ``docs/operations.md``; figures are values of
their own, so that whoever gathers logs need not read prose.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

import structlog

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(level: str, form: str) -> None:
    """Let every logger of this process write in one way.

    Args:
        level: the least that is written: debug, info, warning or error.
        form: ``text`` for ``key=value`` pairs, ``json`` for objects.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            _renderer(form),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_StandardError,
    )


def _renderer(form: str) -> Callable[..., str | bytes]:
    if form == "json":
        return structlog.processors.JSONRenderer(sort_keys=False, default=str)
    return structlog.processors.LogfmtRenderer(
        key_order=("at", "level", "event"), drop_missing=True, bool_as_flag=False
    )


class _StandardError:
    """Writes to what standard error is when the line comes, not when the logger was made."""

    def __init__(self, *_arguments: Any) -> None:
        pass

    def msg(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")  # at once: workers share what they write to
        sys.stderr.flush()

    debug = info = warning = error = critical = exception = msg
