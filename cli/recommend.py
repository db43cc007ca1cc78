"""``afterglow recommend``: what is recommended to whom, why, and how well that foretells a log."""

from __future__ import annotations

import math
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.table import Table

from cli.common import UserError, need_redis, wide_console
from cli.letters import Letters
from cli.long_rows import LongRows
from cli.renames import Renames
from dataflows.durations import duration_text
from dataflows.engine import open_store
from dataflows.explaining_items import WHY, explain_item, utc
from dataflows.foretelling import Run, foretell
from dataflows.settings import Settings
from events.row_columns import parse_pairs
from events.rows import read_messages


def check_use(user: str, item: str, as_json: bool, renamed: bool) -> None:
    """Refuse what would be of no effect.

    Args:
        user: the first word of the command; ``evaluate`` takes a file.
        item: the second one, perhaps empty.
        as_json: whether ``--json`` was given.
        renamed: whether ``--map`` or ``--type`` were.

    Raises:
        UserError: something would.
    """
    if user == "evaluate":
        if not item:
            raise UserError(
                "evaluate needs a log, but none came: name the file, `afterglow recommend "
                "evaluate FILE`"
            )
        if as_json:
            raise UserError("--json is for a customer's list, but evaluate came: leave it out")
        return
    if as_json and item:
        raise UserError(f"--json is for the whole list, but the item {item!r} came: give one")
    if renamed:
        raise UserError(
            "--map and --type are for files, but a customer came: leave them out, or give "
            "evaluate FILE"
        )


def show_candidates(settings: Settings, user: str, item: str, as_json: bool) -> int:
    """Print one user's list, or say of one item why it is in it."""
    need_redis(settings)
    shard = zlib.crc32(user.encode()) % settings.redis.shards
    raw = open_store(settings).candidates(shard, user)
    if raw is None:
        raise UserError(
            f"there is no list for {user!r} under {settings.redis.prefix!r}: the customer has had "
            "nothing to do with any item (recommend.weights says which events count), "
            "recommend.enabled is false, or the id is written differently"
        )
    document = msgspec.msgpack.decode(raw)
    if item:
        print(explain_item(document, item))
    elif as_json:
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        _print(document)
    return 0


def evaluate_file(settings: Settings, file: Path, maps: list[str], types: list[str]) -> int:
    """Predict, then learn: how often the lists would have held what came next; the exit code.

    It is 1 where nothing of the file became an event.
    """
    columns, renames, long_rows = parse_pairs(maps, "--map"), Renames(types), LongRows(file)
    quiet = not sys.stderr.isatty()
    with Bar(console=Console(stderr=True), transient=True, disable=quiet) as bar:
        doing = bar.add_task("events", total=None)
        run = foretell(
            settings,
            file.name,
            read_messages(file, columns, renames, on_lines=long_rows.take),
            lambda events: bar.update(doing, completed=events),
        )
    renames.warn()
    long_rows.warn()
    if run.back_ms:
        _warn_of_order(file, run)
    letters = Letters(file, run.letters.reasons, run.letters.firsts)
    if letters.total and not (run.events or run.others):
        return letters.say_none_good()
    if not run.events:
        refused = f". Dead letters: {letters.counts()}. The first of each:{letters}"
        raise UserError(
            f"{file.name} has no interaction to learn from: recommend.weights names the types of "
            f"event that are ones, and each needs an item_id{refused * bool(letters.total)}"
        )
    title = f"{run.events:,} interactions with {run.items:,} items; {letters.total:,} dead letters"
    table = Table(title=title)
    table.add_column("what came, in the second half")
    for name in ("lists", f"hit rate@{settings.recommend.length}", "MRR"):
        table.add_column(name, justify="right")
    for name, found in (("anything", run.every), ("new to the customer", run.new)):
        table.add_row(name, f"{found.asked:,}", *map(_share, (found.hit_rate, found.mrr)))
    console = wide_console()
    console.print(table)
    if letters.total:
        console.print(letters.told(), highlight=False, markup=False, soft_wrap=True)
    console.print(f"{run.coverage:.1%} of the items stood in some list")
    return 0


def _warn_of_order(file: Path, run: Run) -> None:
    print(
        f"warning: {file} must be in order of time, but {run.unordered:,} of "
        f"{run.events:,} interactions come after a later one, by up to "
        f"{duration_text(run.back_ms)}: lists rest on what was to come. Sort it by ts",
        file=sys.stderr,
    )


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _print(document: dict[str, Any]) -> None:
    left_s = document["valid_to"] / 1000 - time.time()
    old = "" if left_s > 0 else "; it has outlived its validity"
    table = Table(title=f"{escape(document['user_id'])}, as of {utc(document['as_of'])}{old}")
    table.add_column("#", justify="right")
    table.add_column("item")
    table.add_column("score", justify="right")
    table.add_column("why")
    for place, item in enumerate(document["items"], 1):
        why = WHY[item["source"]].format(because=item["because"])
        table.add_row(str(place), escape(item["item_id"]), f"{item['score']:.3f}", escape(why))
    wide_console().print(table)
