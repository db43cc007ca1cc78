"""What all commands share: settings, and errors as people read them.

Nothing heavy is imported before it is needed, so that ``--help`` comes at once.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer
    from rich.console import Console

    from dataflows.settings import Settings

WRONG_USE: Final = 2
"""Exit code for wrong settings or arguments."""

NOTHING_THERE: Final = 1
"""Exit code where the store that was asked is one without data."""

FENCED_OFF: Final = 75
"""Exit code of an engine that another one replaced; a supervisor must not restart it."""


_WIDE: Final = 10_000
"""Columns of output that nobody's terminal cuts."""

QUIET: Final = {"log_level": 2}
"""For Kafka clients of commands: what goes wrong is said once, by the command."""


class UserError(Exception):
    """Something that whoever typed the command can mend."""


def settings(config: Path | None, sets: list[str] | None) -> Settings:
    """The settings in force, checked down to every condition."""
    from dataflows.logs import configure
    from dataflows.plans import check
    from dataflows.settings import SettingsError, load, read

    chosen = load(config, sets or [])
    configure(chosen.logs.level, chosen.logs.format)
    try:
        check(chosen)
    except SettingsError as error:
        raise SettingsError(read(config, sets or []).located(str(error))) from None
    return chosen


def need_kafka(chosen: Settings) -> None:
    """Say what is missing when no broker is named, or wrong in how to reach it."""
    from dataflows.plans import check_kafka

    if not chosen.kafka.bootstrap:
        raise UserError(
            "KAFKA_BOOTSTRAP must name the broker, such as localhost:9092, but is not set. "
            "`afterglow demo` needs no broker"
        )
    check_kafka(chosen)


def need_redis(chosen: Settings) -> None:
    """Say what is missing when no store is named."""
    if not chosen.redis.url.get_secret_value():
        raise UserError(
            "REDIS_URL must name the store, such as redis://localhost:6379/0, but is not set. "
            "`afterglow demo` needs no store"
        )


def wide_console(least: int = 0) -> Console:
    """Where a command prints tables and lines: as wide as the terminal; into a file, never cut.

    Args:
        least: columns of a table that is of no use in fewer; a narrower terminal breaks its lines.
    """
    from rich.console import Console

    if not sys.stdout.isatty():
        return Console(width=_WIDE)
    found = Console()
    return found if found.width >= least else Console(width=least)


def writable(path: Path, option: str) -> Path:
    """The path of a file that a command will write, looked at before it begins to work.

    Args:
        path: where to.
        option: that gave it, such as ``--out``, for the message.

    Raises:
        UserError: nothing can be written there.
    """
    folder = path.parent
    if path.is_dir():
        why = "is a directory"
    elif folder.exists() and not folder.is_dir():
        why = f"{folder} is no directory"
    elif not folder.exists():
        why = f"there is no directory {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        why = "this user may not write there"
    else:
        return path
    raise UserError(
        f"{option} must be a file that can be written, but {path} came: {why}. Name another file, "
        "or make the directory first"
    )


def apart(files: Sequence[tuple[str, Path]]) -> None:
    """Refuse files of a command that are one and the same, also by links.

    Args:
        files: what each is for, such as ``--out``, with its path; what is no file, such as a pipe
            or ``/dev/null``, may be named several times.

    Raises:
        UserError: two are the same.
    """
    for (one, path), (other, second) in combinations(files, 2):
        if _same(path, second):
            raise UserError(
                f"{one} and {other} must be two files, but {path} and {second} are the same: one "
                "would overwrite the other. Name another file"
            )


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.is_file() and one.samefile(other)
    return one.resolve() == other.resolve()


def topics_of(
    client: Consumer | Producer, config: Mapping[str, Any], topic: str | None = None
) -> dict[str, Any]:
    """The broker's metadata of a topic, or of all, by name.

    Args:
        client: to ask with.
        config: that any client is given.
        topic: its name; None for all.

    Raises:
        UserError: the broker does not answer.
    """
    from confluent_kafka import KafkaException

    from operators.broker_errors import silent

    try:
        topics: dict[str, Any] = client.list_topics(topic, timeout=5).topics
    except KafkaException as error:
        raise UserError(str(silent(error, config))) from error
    return topics


def guard(command: Callable[[], None]) -> None:
    """Run the command; a mendable error becomes its message and an exit code."""
    try:
        try:
            command()
        finally:
            if sys.stdout is not None:  # else whoever started this has closed it
                sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; Python must not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        lines = _mendable(error)
        if not lines:
            raise
        print(*lines, sep="\n", file=sys.stderr)
        sys.exit(_code(error))


def _code(error: Exception) -> int:
    from state.store_errors import StoreEmpty

    return NOTHING_THERE if isinstance(error, StoreEmpty) else WRONG_USE


def _mendable(error: Exception) -> list[str]:
    """What to say of an error that whoever typed the command can mend; nothing of others."""
    from redis.exceptions import RedisError

    from dataflows.embedded import EmbeddedError
    from dataflows.settings import SettingsError
    from events.row_columns import RowError
    from operators.broker_errors import SourceError
    from operators.compacted import TopicUnread
    from state.store_errors import StoreError, unanswered

    while type(error).__module__.startswith("bytewax") and isinstance(error.__cause__, Exception):
        error = error.__cause__  # one that came up inside the flow
    if isinstance(error, SettingsError):
        return [f"settings: {line}" for line in str(error).splitlines()]
    known = UserError | RowError | StoreError | SourceError | TopicUnread | EmbeddedError
    if isinstance(error, known):
        return [f"afterglow: {error}"]
    if isinstance(error, RedisError):
        return [f"afterglow: {unanswered(error)}"]
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return [f"afterglow: arguments must be UTF-8, but {error.object[:80]!r} came"]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return [f"afterglow: a file cannot be written to its end: {error}. Make room there"]
    return []
