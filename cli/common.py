"""What all commands share: settings, and errors as people read them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dataflows.settings import Settings, SettingsError, load

WRONG_USE: Final = 2
"""Exit code for wrong settings or arguments."""

FENCED_OFF: Final = 75
"""Exit code of an engine that another one replaced; a supervisor must not restart it."""


class UserError(Exception):
    """Something that whoever typed the command can mend."""


def settings(config: Path | None, sets: list[str] | None) -> Settings:
    """The settings in force, checked down to every condition."""
    from dataflows.plans import check

    chosen = load(config, sets or [])
    check(chosen)
    return chosen


def need_kafka(chosen: Settings) -> None:
    """Say what is missing when no broker is named."""
    if not chosen.kafka.bootstrap:
        raise UserError(
            "KAFKA_BOOTSTRAP must name the broker, such as localhost:9092, but is not set. "
            "`afterglow demo` needs no broker"
        )


def need_redis(chosen: Settings) -> None:
    """Say what is missing when no store is named."""
    if not chosen.redis.url.get_secret_value():
        raise UserError(
            "REDIS_URL must name the store, such as redis://localhost:6379/0, but is not set. "
            "`afterglow demo` needs no store"
        )


def guard(command: Callable[[], None]) -> None:
    """Run the command; a mendable error becomes its message and an exit code."""
    from events.rows import RowError
    from operators.source import SourceError
    from state.store import StoreError

    try:
        command()
    except SettingsError as error:
        for line in str(error).splitlines():
            print(f"settings: {line}", file=sys.stderr)
        sys.exit(WRONG_USE)
    except (UserError, RowError, StoreError, SourceError) as error:
        print(f"afterglow: {error}", file=sys.stderr)
        sys.exit(WRONG_USE)
    except KeyboardInterrupt:
        sys.exit(130)
