"""``afterglow run``: the engine, until a signal ends it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from cli.common import FENCED_OFF, WRONG_USE, UserError, need_kafka, need_redis
from dataflows import plans, warm
from dataflows.engine import Place, WorkerGone, run
from dataflows.settings import Settings
from dataflows.supervisor import Supervisor
from events.compiled_place import is_filled, is_kept, kept_in
from operators.broker_errors import SourceError
from operators.compacted import TopicUnread
from operators.dead_letters import DeadLetterError
from operators.metrics import MetricsError
from operators.publish import PublishError
from operators.stop import Stop
from state.positions import GapError
from state.store_errors import FencedOff, StoreError, StoreMismatch

log = structlog.get_logger()

_MOST_WORKERS: Final = 64
_READABLE: Final = (
    StoreError,
    SourceError,
    PublishError,
    DeadLetterError,
    TopicUnread,
    MetricsError,
    GapError,
    WorkerGone,
)
"""Errors whose message says all there is to say."""


def run_engine(settings: Settings, place: Place, stop: Stop | None = None) -> int:
    """Run one worker until SIGTERM or SIGINT, then drain; the exit code.

    Args:
        settings: in force.
        place: which worker this is.
        stop: raised by these signals already; None to be made here.
    """
    need_kafka(settings)
    need_redis(settings)
    if stop is None:
        _say_if_slow()
        stop = Stop()
        stop.on_signals()
    try:
        end_at_once = partial(_end_at_once, settings.logs.format)
        run(settings, stop, place, end_at_once if place.addresses else lambda _: None)
    except Exception as error:
        return _say(settings.logs.format, error)
    return 0


def run_cluster(settings: Settings, workers: int) -> int:
    """Supervise so many workers on this machine until SIGTERM or SIGINT; the exit code."""
    need_kafka(settings)
    need_redis(settings)
    if workers > min(_MOST_WORKERS, settings.redis.shards):
        raise UserError(
            f"--workers must be at most {min(_MOST_WORKERS, settings.redis.shards)}, because a "
            f"worker owns at least one of the {settings.redis.shards} shards, but {workers} came"
        )
    stop = Stop()
    stop.on_signals()
    _say_if_slow()
    warm.decoder()
    warm.lane()
    return Supervisor(
        workers,
        partial(_work, settings, stop),
        stop,
        plans.patience(settings),
        final=(FENCED_OFF, WRONG_USE),
        say=lambda text: log.warning("workers_ended", detail=text),
        load=warm.models,
    ).run()


def parse_place(process: int, addresses: str) -> Place:
    """Where a worker stands, from the command line.

    >>> parse_place(1, "a:7000, b:7000")
    Place(worker=1, addresses=('a:7000', 'b:7000'), pipe=None)
    """
    found = tuple(a.strip() for a in addresses.split(",") if a.strip())
    for address in found:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"--addresses must be host:port,host:port,… but {address!r} came")
    if not 0 <= process < max(len(found), 1):
        raise UserError(
            f"--process must be the place of this worker among --addresses, 0 to "
            f"{max(len(found), 1) - 1}, but {process} came"
        )
    return Place(process, found)


def _work(settings: Settings, stop: Stop, number: int, addresses: Sequence[str], pipe: int) -> int:
    """A worker of a cluster on this machine."""
    address = plans.metrics_address(settings, number)
    metrics = settings.metrics.model_copy(update={"address": address})
    place = Place(number, tuple(addresses) if len(addresses) > 1 else (), pipe)
    return run_engine(settings.model_copy(update={"metrics": metrics}), place, stop)


def _say_if_slow() -> None:
    if not is_kept():
        log.warning("loops_not_kept", folder=str(kept_in().parent))
    elif not is_filled():
        log.info("compiling_loops", folder=str(kept_in().parent))


def _end_at_once(form: str, error: Exception) -> None:
    """In a cluster all end at the first error, so nothing is left to be done in good order."""
    code = _say(form, error)
    sys.stderr.flush()
    os._exit(code)


def _say(form: str, error: BaseException | None) -> int:
    """The error behind what Bytewax wraps it in, in words; its exit code.

    Args:
        form: of the log: among ``json`` lines nothing else is said.
        error: what ended the engine.
    """
    cause = error
    while cause is not None and type(cause).__module__.startswith("bytewax"):
        cause = cause.__cause__
    if cause is None:
        raise SystemExit(1)
    code = _code(cause)
    known = isinstance(cause, _READABLE)
    if form == "json":
        told = {"error": str(cause)} | ({} if known else {"exc_info": cause})
        log.error("engine_failed", kind=type(cause).__name__, code=code, **told)
        return code
    log.error("engine_failed", kind=type(cause).__name__, code=code)
    print(f"afterglow: {cause}", file=sys.stderr)
    if not known:
        import traceback

        traceback.print_exception(cause)
    return code


def _code(cause: BaseException) -> int:
    if isinstance(cause, FencedOff):
        return FENCED_OFF
    return WRONG_USE if isinstance(cause, StoreMismatch | MetricsError) else 1
