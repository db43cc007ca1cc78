"""``afterglow replay``: a file through the engine, with a summary at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cli.common import UserError, apart, writable
from cli.event_times import EventTimes, utc, warn_of_seconds
from cli.interrupts import Interrupts
from cli.letters import Letters
from cli.long_rows import LongRows
from cli.lookup import check_ending, write_profiles
from cli.renames import Renames
from dataflows.embedded import EmbeddedStore
from dataflows.replay import Interrupted, Replayed, replay
from dataflows.settings import Settings
from events.row_columns import RowError, parse_pairs
from events.rows import read_messages
from events.schema import MAX_TS_MS
from state.store import Store


@dataclass(slots=True, frozen=True)
class Outputs:
    """Files that a replay writes; None for none.

    Attributes:
        export: the profiles; the cuts stand beside it.
        changes: the changes as JSON lines.
        dead_letters: what was no event, as JSON lines.
    """

    export: Path | None = None
    changes: Path | None = None
    dead_letters: Path | None = None

    @property
    def cuts(self) -> Path | None:
        """The population's cuts, beside the profiles."""
        return None if self.export is None else self.export.with_suffix(".cuts.json")

    def check(self, file: Path) -> None:
        """Look whether all can be written without harm to each other and to what is read.

        Raises:
            UserError: one cannot.
        """
        options = {
            "--export": self.export,
            "the cuts beside --export": self.cuts,
            "--changes": self.changes,
            "--dead-letters": self.dead_letters,
        }
        named = [(option, path) for option, path in options.items() if path is not None]
        if self.export is not None:
            check_ending("--export", self.export)
        for option, path in named:
            writable(path, option)
        apart([("the file to be replayed", file), *named])

    def say_partial(self) -> None:
        """Say which files a replay that was cut short leaves behind."""
        left = [path for path in (self.changes, self.dead_letters) if path is not None]
        if left:
            hold = "holds" if len(left) == 1 else "hold"
            print(
                f"afterglow: {' and '.join(map(str, left))} {hold} only what came until then",
                file=sys.stderr,
            )


def replay_file(
    settings: Settings,
    file: Path,
    until: str,
    partitions: int,
    outputs: Outputs,
    maps: list[str],
    types: list[str],
    interrupts: Interrupts,
) -> int:
    """Replay a file into an embedded store and write what was asked for; the exit code.

    It is 1 where nothing of the file was applied, and that of the signal where one came.
    """
    columns, renames, long_rows = parse_pairs(maps, "--map"), Renames(types), LongRows(file)
    opened = read_messages(file, columns, renames)
    outputs.check(file)
    until_ms = _time_ms(until) if until else None
    next(opened, None)  # most of what can be wrong with a file shows at once
    start_s = time.monotonic()
    with EmbeddedStore() as embedded:
        store = Store(embedded.url, settings.redis.prefix, settings.redis.shards)
        try:
            with _taking(outputs.changes) as take_changes:
                done = replay(
                    settings,
                    store,
                    file.name,
                    lambda: read_messages(file, columns, renames, on_lines=long_rows.take),
                    until_ms=until_ms,
                    partitions=partitions,
                    dead_letters=outputs.dead_letters,
                    take_changes=take_changes,
                    stop=interrupts,
                )
            if done.events:
                _export(store, outputs, done, interrupts)
        except Interrupted as error:
            print(f"afterglow: {error}; nothing is exported", file=sys.stderr)
            outputs.say_partial()
            return interrupts.code
        except RowError:
            outputs.say_partial()
            raise
        store.close()
    letters = Letters(file, done.dead, done.first_dead, partitions, outputs.dead_letters)
    _summarise(done, letters, time.monotonic() - start_s)
    renames.warn()
    long_rows.warn()
    if not done.events:
        return _say_none(file, done, letters, outputs)
    return interrupts.code


@contextmanager
def _taking(path: Path | None) -> Iterator[Callable[[bytes, bytes], None]]:
    """What takes changes: into a file, or nowhere."""
    if path is None:
        yield lambda _key, _value: None
        return
    try:
        out = path.open("wb")
    except OSError as error:
        raise UserError(f"--changes: {path} cannot be written: {error.strerror}") from error
    with out:

        def take(_key: bytes, value: bytes) -> None:
            out.write(value + b"\n")

        yield take


def _export(store: Store, outputs: Outputs, done: Replayed, interrupts: Interrupts) -> None:
    """Write the profiles and the cuts; where that does not go well, no part of the profiles."""

    def look() -> None:
        if interrupts.requested:
            raise Interrupted(done.events)

    export, cuts = outputs.export, outputs.cuts
    if export is None or cuts is None:
        return
    try:
        write_profiles(store, export, look)
        cuts.write_bytes(done.cuts_json())
    except BaseException as error:
        if export.suffix != ".parquet":  # which comes under its name only when all is written
            export.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"{export} cannot be written: {error.strerror or error}") from error
        raise


def _summarise(done: Replayed, letters: Letters, seconds: float) -> None:
    print(
        f"{done.events:,} events of {done.users:,} users in {seconds:.1f} s; "
        f"{done.duplicates:,} duplicates, {done.unchecked:,} too old to tell (dedup.window), "
        f"{done.skipped:,} at or after the end"
    )
    EventTimes(done.oldest_ms, done.newest_ms).say()
    if letters.total and (done.events or done.skipped):
        print(letters.told(letters.where_all_are()))
    causes = ", ".join(f"{count:,} by {cause}" for cause, count in done.changes.most_common())
    print(f"changes: {causes or 'none'}")


def _say_none(file: Path, done: Replayed, letters: Letters, outputs: Outputs) -> int:
    """Say why no event was applied; the exit code for that."""
    code = 1
    if done.oldest_ms is not None and done.newest_ms is not None:
        print(
            f"afterglow: all {done.skipped:,} events of {file} lie at or after --until, "
            f"{utc(done.until_ms)} UTC, and so none was applied: they are from "
            f"{utc(done.oldest_ms)} to {utc(done.newest_ms)} UTC. Give a later --until",
            file=sys.stderr,
        )
    elif letters.total:
        code = letters.say_none_good(letters.where_all_are())
    else:
        print(f"afterglow: {file} holds no message, so there is nothing to replay", file=sys.stderr)
    if outputs.export is not None:
        print(f"afterglow: nothing is exported to {outputs.export}", file=sys.stderr)
    return code


def _time_ms(text: str) -> int:
    """The time that ``--until`` gives; one that seems to be in seconds is said."""
    if text.isascii() and text.isdigit() and int(text) <= MAX_TS_MS:
        warn_of_seconds("--until", int(text), "the time")
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UserError(
            f"--until must be epoch milliseconds or RFC 3339 with an offset, such as "
            f"2026-01-31T00:00:00Z, but {text!r} came"
        )
    return int(moment.timestamp() * 1000)
