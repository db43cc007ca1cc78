"""Lists that follow their profiles: one commit later, complete, and never lost."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.settings import load
from events.texts import Texts
from operators.lane_step import CommitPolicy, LaneLogic
from operators.metrics import Metrics
from state.recommending import Lists
from state.times import DAY_MS
from tests.test_recommending import SETS, START_MS, Life, log_of

servers = pytest.mark.servers


def view(user: str, item: str, n: int, ts: int = START_MS) -> bytes:
    return msgspec.json.encode(
        {"event_id": f"e{n}", "user_id": user, "type": "product_view", "ts": ts, "item_id": item}
    )


def begin(life: Life) -> None:
    """A commit as an engine begins it; it has arrived."""
    (checkpoint,) = life.checkpoints
    checkpoint.begin(lists_later=True)
    checkpoint.finish()


def profile(life: Life, user: str) -> dict | None:
    raw = life.stores[0].profile(life.lanes[0].shard_of(user), user)
    return None if raw is None else msgspec.msgpack.decode(raw)


@pytest.fixture
def life(store_url):
    """A shop that has seen a little."""
    life = Life(store_url, log_of(1, 400)).run()
    yield life
    life.close()


@servers
def test_a_list_goes_out_with_the_commit_after_its_profile(life):
    life.log.append(view("new", "i1", 0, START_MS + DAY_MS))
    life.apply()
    begin(life)
    assert (profile(life, "new") is None, life.document("new")) == (False, None)
    life.lanes[0].make_lists()
    assert life.document("new") is None, "nothing is written but by a commit"
    begin(life)
    assert life.document("new")["as_of"] == START_MS + DAY_MS
    assert life.lanes[0].recommender.waiting() == 0


@servers
def test_a_list_alone_writes_no_profile(life):
    life.log.append(view("new", "i1", 0, START_MS + DAY_MS))
    life.apply()
    begin(life)
    before, counted = profile(life, "new"), life.lanes[0].counters.committed
    life.lanes[0].make_lists()
    begin(life)
    assert (profile(life, "new"), life.lanes[0].counters.committed) == (before, counted)


@servers
@pytest.mark.parametrize("made", [False, True])
def test_a_crash_before_the_list_is_out_makes_it_again(life, store_url, made):
    life.log.append(view("new", "i1", 0, START_MS + DAY_MS))
    life.apply()
    begin(life)
    if made:
        life.lanes[0].make_lists()
    again = Life(store_url, life.log)
    assert again.lanes[0].recommender.waiting() == 1
    again.commit()
    assert again.document("new")["as_of"] == START_MS + DAY_MS
    again.close()
    last = Life(store_url, life.log)
    assert last.lanes[0].recommender.waiting() == 0
    last.close()


@servers
def test_who_acts_before_the_list_is_out_gets_a_newer_one_after_it(life, store_url):
    life.log.append(view("new", "i1", 0, START_MS + DAY_MS))
    life.apply()
    begin(life)
    life.lanes[0].make_lists()
    life.log.append(view("new", "i2", 1, START_MS + 2 * DAY_MS))
    life.apply()
    begin(life)
    assert life.document("new")["as_of"] == START_MS + DAY_MS
    again = Life(store_url, life.log)
    assert again.lanes[0].recommender.waiting() == 1, "the stored list is older than the event"
    again.lanes[0].make_lists()
    begin(again)
    assert again.document("new")["as_of"] == START_MS + 2 * DAY_MS
    again.close()


@servers
def test_lists_that_wait_meet_newer_ones(life):
    lane = life.lanes[0]
    for n, user in enumerate(["new", "newer", "new"]):
        life.log.append(view(user, f"i{n}", n, START_MS + (n + 1) * DAY_MS))
        life.apply()
        lane.make_lists()
    begin(life)
    found = {user: life.document(user)["as_of"] - START_MS for user in ("new", "newer")}
    assert found == {"new": 3 * DAY_MS, "newer": 2 * DAY_MS}


@servers
def test_who_is_forgotten_before_the_list_is_out_has_none(store_url):
    settings = load(sets=[*SETS, "retention.after=500d"], env={})
    life = Life(store_url, [view("gone", "i1", 0)], settings=settings)
    life.apply()
    begin(life)
    life.lanes[0].make_lists()
    life.log.append(view("other", "i1", 1, START_MS + 600 * DAY_MS))
    life.apply()
    begin(life)
    assert (profile(life, "gone"), life.document("gone")) == (None, None)
    life.lanes[0].make_lists()
    begin(life)
    assert (life.document("gone"), life.document("other") is None) == (None, False)
    life.close()


@servers
def test_a_store_that_lost_its_tail_is_given_the_lists_again(life):
    lane, (store,) = life.lanes[0], life.stores
    shard = lane.shard_of("new")
    life.log.append(view("new", "i1", 0, START_MS + DAY_MS))
    life.apply()
    begin(life)
    seq = lane.sequences()[shard]
    held = {kind: store.client.dump(store.key(kind, shard)) for kind in ("commit", "state")}
    lane.make_lists()
    begin(life)
    assert life.document("new") is not None
    store.client.hdel(store.key("candidates", shard), "new")  # as the commit before left it
    for kind, raw in held.items():
        store.client.restore(store.key(kind, shard), 0, raw, replace=True)
    life.commit()
    assert lane.sequences()[shard] > seq
    assert life.document("new")["as_of"] == START_MS + DAY_MS


@servers
def test_an_engine_makes_them_soon_and_all_at_its_end(life, monkeypatch):
    monkeypatch.setattr("operators.lane_step._LISTS_S", 0.0)
    monkeypatch.setattr("operators.lane_step._LISTS_BEHIND_S", 3_600.0)
    (lane,), (checkpoint,) = life.lanes, life.checkpoints
    logic = LaneLogic(lane, checkpoint, CommitPolicy(max_delay_s=0, ahead=True), None, Metrics())
    life.log += [view(user, "i1", n, START_MS + DAY_MS) for n, user in enumerate(["ann", "bob"])]
    first, second = life.read(1), life.read(1)
    quiet = first.where(np.zeros(len(first), dtype=np.bool_))
    quiet.spans = []
    first.more, second.more, quiet.more = False, True, False
    logic.on_batch([first])
    assert (lane.recommender.waiting(), life.document("ann")) == (0, None)
    logic.on_batch([quiet])
    checkpoint.finish()
    assert life.document("ann")["as_of"] == START_MS + DAY_MS
    quiet.more = True
    logic.on_batch([second])
    logic.on_batch([quiet])
    assert (lane.recommender.waiting(), life.document("bob")) == (1, None), "it is behind"
    logic.on_eof()
    assert life.document("bob")["as_of"] == START_MS + DAY_MS


ROWS = st.dictionaries(st.integers(0, 20), st.binary(max_size=9), max_size=12)


def lists_of(held: dict[int, bytes]) -> Lists:
    rows = sorted(held)
    return Lists(np.array(rows, dtype=np.int64), Texts.of_bytes([held[row] for row in rows]))


@given(st.lists(ROWS, max_size=4))
def test_newer_lists_stand_in_place_of_older_ones(parts):
    found, wanted = Lists.none(), {}
    for held in parts:
        found, wanted = found.then(lists_of(held)), wanted | held
    assert found.rows.tolist() == sorted(wanted)
    assert found.documents.bytes_list() == [wanted[row] for row in sorted(wanted)]
