"""``afterglow segments``: definitions of segments, changed while the engine runs."""

from __future__ import annotations

import getpass
import time
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape
from rich.table import Table

from cli.common import UserError, need_redis, wide_console
from dataflows import plans
from dataflows.complaints import lines
from dataflows.definitions import in_force, register
from dataflows.engine import open_store
from dataflows.left_out import left_out
from dataflows.sections.profiles import FamilySettings, Segment
from dataflows.sections.values import Name
from dataflows.settings import Settings, SettingsError
from operators.lane_step import wall_clock_ms
from state.definition_set import DefinitionSet
from state.definition_store import DefinitionStore
from state.revisions import Revision, Spec, differences, follow
from state.store import Store

_SEGMENTS: TypeAdapter[dict[str, Segment]] = TypeAdapter(dict[Name, Segment])
_FAMILIES: TypeAdapter[dict[str, FamilySettings]] = TypeAdapter(dict[Name, FamilySettings])
_Form = TypeVar("_Form")
_DONE: Final = "every worker takes it over within seconds"


def list_segments(settings: Settings, as_json: bool = False) -> int:
    """Show every segment in a line: version, members, definition."""
    store, live = opened(settings)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(_plain(store, live))).decode())
        return 0
    table = Table(title=_titled(live))
    for name in ("segment", "version", "members", "enter", "exit", ""):
        table.add_column(name, justify="right" if name in ("version", "members") else "left")
    for spec in live.segments:
        paused = "paused" if spec.name in live.paused else ""
        exit_ = "" if spec.exit is None else spec.exit
        cells = (spec.name, str(spec.version), f"{_size(store, spec.name):,}", spec.enter, exit_)
        table.add_row(*map(escape, cells), paused)
    for family in live.families:
        paused = "paused" if family.name in live.paused else f"of {family.name}"
        for label, text in family.members:
            cells = (label, str(family.version), f"{_size(store, label):,}", text, "")
            table.add_row(*map(escape, cells), paused)
    wide_console().print(table)
    return 0


def _plain(store: Store, live: Revision) -> dict[str, Any]:
    """What ``list`` shows, for programs; ``family`` is null where a segment is no label of one."""

    def told(name: str, unit: Spec, enter: str, exit_: str | None, family: str | None) -> Any:
        return {
            "segment": name,
            "family": family,
            "version": unit.version,
            "members": _size(store, name),
            "enter": enter,
            "exit": exit_,
            "paused": unit.name in live.paused,
        }

    found = [told(spec.name, spec, spec.enter, spec.exit, None) for spec in live.segments]
    for family in live.families:
        found += [told(label, family, text, None, family.name) for label, text in family.members]
    head = {"revision": live.number, "at_ms": live.at_ms, "author": live.author}
    return {**head, "segments": found}


def show_segment(settings: Settings, name: str) -> int:
    """Print one definition as JSON."""
    _, live = opened(settings)
    spec = live.units.get(name)
    if spec is None:
        raise UserError(_unknown(live, name))
    print(msgspec.json.format(msgspec.json.encode(spec)).decode())
    return 0


def show_history(settings: Settings) -> int:
    """Show all revisions, the newest first, with what each changed."""
    store, _ = opened(settings)
    found = DefinitionStore(store).all()
    if not found:
        print("nothing was written down yet; an engine that starts writes down the settings'")
    for was, revision in reversed(list(zip([None, *found], found, strict=False))):
        note = f": {revision.note}" if revision.note else ""
        print(f"{revision.number}  {utc(revision.at_ms)}  {revision.author}{note}")
        for line in [] if was is None else differences(was, revision):
            print(f"    {line}")
    return 0


def show_differences(settings: Settings, file: Path | None, first: int, second: int) -> int:
    """Say what a file, or a revision, changes."""
    store, live = opened(settings)
    revisions = DefinitionStore(store)
    if file is not None:
        old, new = live, next_revision(settings, live, file)
    else:
        new = _numbered(revisions, second or live.number)
        old = _numbered(revisions, first or max(new.number - 1, 1))
    found = differences(old, new)
    print(*(found or ["nothing differs"]), sep="\n")
    return 0


def apply_file(settings: Settings, file: Path, author: str, note: str) -> int:
    """Put the definitions of a file in force."""
    store, live = _open_to_change(settings)
    then = next_revision(settings, live, file, author, note)
    changes = differences(live, then)
    if not changes:
        print(f"nothing differs from revision {live.number}")
        return 0
    _publish(store, then)
    print(f"revision {then.number}; {_DONE}", *changes, sep="\n  ")
    return 0


def pause_segment(settings: Settings, name: str, author: str, note: str, *, resume: bool) -> int:
    """Let members of a segment or family stay as they are, or let them move again."""
    store, live = _open_to_change(settings)
    if name not in live.units:
        raise UserError(_unknown(live, name))
    if (name in live.paused) is not resume:
        raise UserError(f"{name!r} is {'not paused' if resume else 'paused already'}")
    paused = set(live.paused) - {name} if resume else {*live.paused, name}
    then = follow(
        live,
        at_ms=wall_clock_ms(),
        author=author or getpass.getuser(),
        note=note,
        source=live.source,
        paused=paused,
        exempt=[name] if resume else [],
    )
    _publish(store, then)
    print(f"{name!r} {'goes on' if resume else 'is paused'} (revision {then.number}); {_DONE}")
    return 0


def opened(settings: Settings) -> tuple[Store, Revision]:
    """The store, and the definitions in force."""
    need_redis(settings)
    store = open_store(settings)
    return store, in_force(settings, DefinitionStore(store))


def _open_to_change(settings: Settings) -> tuple[Store, Revision]:
    """With what the settings say written down, so that there is something to differ from."""
    need_redis(settings)
    store = open_store(settings)
    return store, register(settings, DefinitionStore(store), wall_clock_ms())


def next_revision(
    settings: Settings, live: Revision, file: Path, author: str = "", note: str = ""
) -> Revision:
    """The revision that a file comes to, checked down to every condition and offer."""
    wanted = _read(file)
    try:
        plans.check_definitions(settings, wanted, plans.learner(settings, trains=False))
    except SettingsError as error:
        if "there is no " in str(error):
            _check_whole(settings, live, file, wanted)
        raise SettingsError(f"{file}: {error}") from error
    return follow(
        live,
        at_ms=wall_clock_ms(),
        author=author or getpass.getuser(),
        note=note,
        definitions=wanted,
    )


def _check_whole(settings: Settings, live: Revision, file: Path, wanted: DefinitionSet) -> None:
    """Refuse a file that is a part of all definitions, and lacks what something asks for."""
    offers = plans.lane_plan(settings).offers
    lacks = left_out(live.definitions, wanted, offers)
    if lacks:
        told = " and ".join(f"{each.what} (asked for by {', '.join(each.by)})" for each in lacks)
        raise UserError(
            f"{file}: must hold all segments and families, because what is not in it ends, but it "
            f"leaves out {told}, in force now. Put back what is left out, or begin with a file of "
            "all that is in force: `afterglow segments export FILE`"
        )


def _read(file: Path) -> DefinitionSet:
    """The tables ``segments`` and ``families`` of a TOML file, which may be one of all settings."""
    try:
        data: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: is not TOML: {error}") from error
    for table in data.keys() - Settings.model_fields.keys():
        near = get_close_matches(table, ("segments", "families"), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"{file}: [{table}] means nothing here: {hint}Definitions stand in [segments.NAME] and "
            "[families.NAME]; what is not among them ends"
        )
    if "segments" not in data and "families" not in data:
        raise UserError(
            f"{file}: must have tables such as [segments.NAME] or [families.NAME.labels], as in "
            "afterglow.toml, but has neither"
        )
    return plans.definition_set(
        _table(file, data, "segments", _SEGMENTS), _table(file, data, "families", _FAMILIES)
    )


def _table(
    file: Path, data: dict[str, Any], name: str, form: TypeAdapter[dict[str, _Form]]
) -> dict[str, _Form]:
    try:
        return form.validate_python(data.get(name, {}))
    except ValidationError as error:
        raise SettingsError(
            "\n".join(f"{file}: {line}" for line in lines(error, (name,)))
        ) from None


def _publish(store: Store, then: Revision) -> None:
    """Write a revision, unless somebody was faster."""
    if not DefinitionStore(store).publish(then):
        raise UserError(
            f"revision {then.number} was just written by somebody else: look at `afterglow "
            "segments history`, then try again"
        )


def _numbered(revisions: DefinitionStore, number: int) -> Revision:
    found = revisions.at(number)
    if found is None:
        raise UserError(f"there is no revision {number}; there are {revisions.count()}")
    return found


def _unknown(live: Revision, name: str) -> str:
    for family in live.families:
        if name in dict(family.members):
            return f"{name!r} is a label of the family {family.name!r}; name the family"
    return f"there is no segment or family {name!r}; there are {', '.join(live.units)}"


def _size(store: Store, name: str) -> int:
    pipe = store.client.pipeline(transaction=False)
    for shard in range(store.shards):
        pipe.scard(store.key("members", shard, name))
    return sum(pipe.execute())


def _titled(live: Revision) -> str:
    if not live.number:
        return "segments of the settings"
    return f"revision {live.number} of {utc(live.at_ms)} by {live.author}"


def utc(ms: int) -> str:
    """A time as people read it."""
    if ms <= 0:
        return "no time"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ms / 1000))
