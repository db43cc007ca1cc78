"""``afterglow run``: the engine, until a signal ends it."""

from __future__ import annotations

import sys

from cli.common import FENCED_OFF, need_kafka, need_redis
from dataflows.engine import run
from dataflows.settings import Settings
from operators.stop import Stop
from state.store import FencedOff, StoreError


def run_engine(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, then drain; the exit code."""
    need_kafka(settings)
    need_redis(settings)
    stop = Stop()
    stop.on_signals()
    try:
        run(settings, stop)
    except Exception as error:
        return _say(error)
    return 0


def _say(error: BaseException | None) -> int:
    """The error behind what Bytewax wraps it in, in words; its exit code."""
    cause = error
    while cause is not None and type(cause).__module__.startswith("bytewax"):
        cause = cause.__cause__
    if cause is None:
        raise SystemExit(1)
    print(f"afterglow: {cause}", file=sys.stderr)
    if isinstance(cause, FencedOff):
        return FENCED_OFF
    if not isinstance(cause, StoreError):
        import traceback

        traceback.print_exception(cause)
    return 1
