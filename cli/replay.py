"""``afterglow replay``: a file through the engine, with a summary at the end."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from cli.common import UserError
from cli.lookup import write_profiles
from dataflows.embedded import EmbeddedStore
from dataflows.replay import Replayed, replay
from dataflows.settings import Settings
from events.rows import parse_pairs, read_messages
from state.store import Store


def replay_file(
    settings: Settings,
    file: Path,
    until: str,
    partitions: int,
    export: Path | None,
    changes: Path | None,
    dead_letters: Path | None,
    maps: list[str],
    types: list[str],
) -> int:
    """Replay a file into an embedded store and write what was asked for."""
    columns, renamed = parse_pairs(maps, "--map"), parse_pairs(types, "--type")
    read_messages(file, columns, renamed)
    until_ms = _time_ms(until) if until else None
    start_s = time.monotonic()
    out = changes.open("wb") if changes else None
    with EmbeddedStore() as embedded:
        store = Store(embedded.url, settings.redis.prefix, settings.redis.shards)
        done = replay(
            settings,
            store,
            file.name,
            lambda: read_messages(file, columns, renamed),
            until_ms=until_ms,
            partitions=partitions,
            dead_letters=dead_letters,
            take_changes=lambda _key, value: (out.write(value + b"\n"), None)[1] if out else None,
        )
        if export is not None:
            write_profiles(store, export)
            export.with_suffix(".cuts.json").write_bytes(done.cuts_json())
        store.close()
    if out:
        out.close()
    _summarise(done, time.monotonic() - start_s)
    return 0


def _summarise(done: Replayed, seconds: float) -> None:
    print(
        f"{done.events:,} events of {done.users:,} users in {seconds:.1f} s; "
        f"{done.duplicates:,} duplicates, {done.skipped:,} at or after the end"
    )
    if done.dead:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in done.dead.most_common())
        print(f"dead letters: {reasons}. The first: {done.first_dead}")
    causes = ", ".join(f"{count:,} by {cause}" for cause, count in done.changes.most_common())
    print(f"changes: {causes or 'none'}")


def _time_ms(text: str) -> int:
    if text.isdigit():
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
