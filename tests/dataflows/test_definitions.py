"""Which definitions hold: those of the settings, until others are applied."""

from __future__ import annotations

import pytest

from dataflows.definitions import decided_by, in_force, register
from dataflows.engine import ALONE, open_lane
from dataflows.settings import Settings, load
from events.decode import Decoder
from events.schema import EventRules
from operators.definitions import DefinitionFollower
from state.checkpoint import Checkpoint
from state.definition_set import DefinitionSet
from state.definition_store import DefinitionStore
from state.definitions import SegmentSpec
from state.revisions import differences, follow
from state.store import Store
from tests.state.streams import START_MS, read_of

pytestmark = pytest.mark.servers

SHARDS = 4
SETS = ("redis.shards=4", "redis.prefix=t", "models.enabled=false", "recommend.enabled=false")


def settings(*sets: str) -> Settings:
    return load(sets=[*SETS, *sets], env={})


@pytest.fixture
def store(store_url: str) -> Store:
    return Store(store_url, "t", SHARDS)


def test_settings_are_written_down_once_and_again_when_they_change(store: Store) -> None:
    revisions = DefinitionStore(store)
    assert in_force(settings(), revisions).number == 0
    first = register(settings(), revisions, 1)
    assert (first.number, first.author, first.source) == (1, "settings", "settings")
    assert register(settings(), revisions, 2) == first
    then = register(settings("segments.high_intent.enter=intent >= 9"), revisions, 3)
    assert differences(first, then) == ["high_intent: enter: intent >= 8 → intent >= 9"]
    assert (then.number, then.units["high_intent"].version) == (2, 2)
    assert then.units["vip"].version == 1
    back = register(settings(), revisions, 4)
    assert (back.number, back.units["high_intent"].version) == (3, 3)


def test_what_was_applied_holds_whatever_the_settings_say(store: Store) -> None:
    revisions = DefinitionStore(store)
    first = register(settings(), revisions, 1)
    only = DefinitionSet([SegmentSpec("only", "lifetime.events >= 1")])
    applied = follow(first, at_ms=2, author="ann", definitions=only)
    assert revisions.publish(applied)
    assert register(settings("segments.vip.enter=rfm.m == 4"), revisions, 3) == applied
    assert in_force(settings(), revisions) == applied


def test_a_lane_starts_with_what_its_users_were_decided_by_and_goes_on_from_there(
    store: Store,
) -> None:
    """So a change of the settings is weighed at a start as it is while the engine runs."""
    revisions, shards = DefinitionStore(store), range(SHARDS)
    chosen = settings("segments.busy.enter=lifetime.events >= 1", "offers={}")
    first = register(chosen, revisions, 1)
    assert decided_by(chosen, revisions, store, shards) is None
    lane = open_lane(chosen, ALONE, first.definitions)
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    event = {"event_id": "e", "type": "search", "ts": START_MS}
    events = [event | {"event_id": f"e{n}", "user_id": f"u{n}"} for n in range(150)]
    lane.apply(Decoder(EventRules())(read_of(events))[0])
    checkpoint.commit(heartbeat=True)
    assert decided_by(chosen, revisions, store, shards) == first
    guard = "segments.busy.guard={ share = 0.2, within = '1m', least = 5 }"
    edited = settings("segments.busy.enter=lifetime.events >= 9", guard, "offers={}")
    then = register(edited, revisions, 2)
    begun = decided_by(edited, revisions, store, shards)
    assert (then.number, begun) == (2, first)
    again = open_lane(edited, ALONE, first.definitions)
    resumed = Checkpoint(again, store)
    resumed.open()
    follower = DefinitionFollower(again, revisions, first)
    for _ in range(12):
        follower._looked_s = 0.0
        follower.step(3)
        again.catch_up()
        resumed.commit()
    live = revisions.live()
    assert live is not None
    assert (live.paused, live.source) == (["busy"], "settings")
    assert again.decider.sizes[list(again.decider.plan.names).index("busy")] == 150
    # definitions that mean nothing under other settings are not gone back to
    without = settings("segments={}", "families={}", "offers={}", "features={}")
    assert decided_by(without, revisions, store, shards) is None
