"""Which definitions of segments hold: those of the settings until others are applied.

Settings that have changed are written down as a revision of their own when an engine starts, so the
history of a store is whole. Once a command has applied definitions, the store holds; settings that
say otherwise are named in a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import structlog

from dataflows import plans
from dataflows.settings import Settings, SettingsError
from state.definition_set import DefinitionSet
from state.definition_store import DefinitionStore
from state.forms import About
from state.revisions import Revision, Spec, follow
from state.store import Store

log = structlog.get_logger("afterglow.segments")

SETTINGS: Final = "settings"
"""The author of what the settings say."""


def of_settings(settings: Settings) -> Revision:
    """What the settings say, as a revision that was never written down."""
    wanted = plans.definition_set(settings.segments, settings.families)
    return Revision(
        number=0,
        at_ms=0,
        author=SETTINGS,
        source="settings",
        segments=list(wanted.segments),
        families=list(wanted.families),
    )


def in_force(settings: Settings, revisions: DefinitionStore) -> Revision:
    """The revision in force; what the settings say where there is none."""
    return revisions.live() or of_settings(settings)


def register(settings: Settings, revisions: DefinitionStore, now_ms: int) -> Revision:
    """Write down what the settings say, if that is what holds and it is new; what holds then."""
    said = of_settings(settings)
    while True:
        live = revisions.live()
        if live is not None and _same(live, said):
            return live
        if live is not None and live.source == "applied":
            return live
        then = follow(
            live or said,
            at_ms=now_ms,
            author=SETTINGS,
            source="settings",
            definitions=said.definitions,
        )
        if revisions.publish(then):
            return then


def warn(settings: Settings, live: Revision) -> None:
    """Say so where the settings define other segments than those that hold."""
    if not _same(live, of_settings(settings)):
        log.warning(
            "segments_differ_from_settings",
            revision=live.number,
            author=live.author,
        )


def decided_by(
    settings: Settings, revisions: DefinitionStore, store: Store, shards: Sequence[int]
) -> Revision | None:
    """The revision by which users of some shards were decided last.

    None where that cannot be told or means nothing under these settings; then users go over to
    what holds without being weighed.
    """
    found = store.record_fields(["definitions"])
    marks = {_mark(found[shard][0]) for shard in shards}
    for revision in reversed(revisions.all()):
        if revision.definitions.mark in marks:
            try:
                models = plans.learner(settings, trains=False)
                plans.check_definitions(settings, revision.definitions, models)
            except SettingsError:
                return None
            return revision
    return None


def _mark(raw: bytes | None) -> int | None:
    return None if raw is None else msgspec.json.decode(raw, type=About).mark


def _same(live: Revision, said: Revision) -> bool:
    """Whether two define the same, whatever versions they are."""
    return bool(_plain(live.definitions) == _plain(said.definitions))


def _plain(definitions: DefinitionSet) -> Any:
    every: list[Spec] = [*definitions.segments, *definitions.families]
    return msgspec.to_builtins([replace(spec, version=0) for spec in every])
