"""Users of whom only a lost history has told are told out of everything and leave no trace."""

import msgspec
import pytest

from state.changes import Change, Gone, decode_entry, is_gone
from state.checkpoint import Checkpoint
from state.definitions import SegmentSpec
from state.lane import Lane
from state.store import Store
from state.times import DAY_MS
from tests.folding import documents
from tests.state.streams import START_MS, feed, plan

SEGMENTS = [SegmentSpec("seen", "lifetime.events >= 1"), SegmentSpec("idle", "lifetime.orders < 1")]
TOLD = {"ann": ["seen", "a_former_segment"], "bob": ["idle"]}


def new_lane(retention_ms: int = 0) -> Lane:
    return Lane(plan(segments=SEGMENTS, retention_ms=retention_ms), range(64))


def said(entries: list[bytes]) -> tuple[list[Change], list[Gone]]:
    """What some commits tell: changes, and who is gone."""
    values = [value for entry in entries if entry for _, value in decode_entry(entry)]
    changes = [msgspec.json.decode(v, type=Change) for v in values if not is_gone(v)]
    return changes, [msgspec.json.decode(v, type=Gone) for v in values if is_gone(v)]


def commit(lane: Lane) -> tuple[list[Change], list[Gone]]:
    commits = lane.collect()
    lane.settle(commits)
    return said([c.changes for c in commits])


@pytest.mark.servers
@pytest.mark.parametrize("retention_ms", [0, 400 * DAY_MS])
@pytest.mark.parametrize("evaluated", [False, True])
def test_nothing_of_a_stranger_is_stored(
    store_url: str, retention_ms: int, evaluated: bool
) -> None:
    store, lane = Store(store_url, "t"), new_lane(retention_ms)
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    assert lane.recover(TOLD, START_MS) == 3
    if evaluated:
        lane.finish(START_MS)
    changes, gone = said([committed.changes for committed in checkpoint.commit()])
    exits = [(c.user_id, c.segment, c.n, c.ts, c.decided_at) for c in changes]
    assert sorted(exits) == [
        ("ann", "a_former_segment", 2, START_MS, START_MS),
        ("ann", "seen", 1, START_MS, START_MS),
        ("bob", "idle", 1, START_MS, START_MS),
    ]
    assert {(c.action, c.cause.kind) for c in changes} == {("exited", "recovery")}
    assert sorted((g.user_id, g.n) for g in gone) == [("ann", 2), ("bob", 1)]
    checkpoint.commit(heartbeat=True)
    assert documents(store) == {}
    for shard in range(64):
        assert not list(store.fields("state", shard))
        assert not any(list(store.members(shard, spec.name)) for spec in SEGMENTS)
    heir = new_lane(retention_ms)
    Checkpoint(heir, store).open()
    assert len(lane.users) == len(heir.users) == 0
    store.close()


@pytest.mark.parametrize("too_late", [False, True], ids=["with that commit", "after it"])
def test_a_stranger_whose_events_come_is_known_by_them(too_late: bool) -> None:
    """And goes on counting changes, or begins anew in a higher epoch."""
    lane = new_lane()
    lane.recover(TOLD, START_MS)
    before = commit(lane) if too_late else ([], [])
    feed(lane, [{"event_id": "e", "user_id": "ann", "type": "search", "ts": START_MS}])
    found, again = commit(lane), lane.collect()
    changes, gone = before[0] + found[0], before[1] + found[1]
    places = [(c.n, c.segment, c.action, c.epoch) for c in changes if c.user_id == "ann"]
    assert places[:2] == [(1, "seen", "exited", 0), (2, "a_former_segment", "exited", 0)]
    if too_late:
        assert places[2:] == [(1, "seen", "entered", 1), (2, "idle", "entered", 1)]
    else:
        assert places[2:] == [(3, "seen", "entered", 0), (4, "idle", "entered", 0)]
    assert sorted(g.user_id for g in gone) == (["ann", "bob"] if too_late else ["bob"])
    assert again == []
    (row,) = lane.users.everybody()
    assert lane.users.ids[int(row)] == "ann"
    assert lane.table["first_seen"][row] == lane.table["last_seen"][row] == START_MS
    assert lane.decider.sizes.tolist() == [1, 1]


def test_rows_of_strangers_are_given_to_others() -> None:
    lane = new_lane()
    for n in range(20):
        lane.recover({f"u{n}-{k}": ["seen"] for k in range(50)}, START_MS)
        commit(lane)
    assert lane.table.size == 50
