"""What a lost history has told is taken back: from what was told to what the lane holds."""

import random
import time
from collections import defaultdict

import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import Producer, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.compacted import latest
from operators.courier import Courier, Position, Published, Terms, published_positions
from operators.recovery import lost_shards, recover, yet_to_be_told
from operators.topics import Topics, make_topics
from state.changes import Gone, decode_entry, encode_entry, is_gone
from state.checkpoint import Checkpoint, Committed
from state.definition_set import DefinitionSet
from state.definitions import SegmentSpec
from state.lane import Lane
from state.store import Store
from state.times import NEVER_MS
from tests.brokers import needs_kafka
from tests.faults.lives import NAMES, START_MS, Log, new_lane, random_events, somebody

USERS = somebody(12)
STRANGERS = ["nobody", "noöne", "x"]
GONE = ["a_former_segment", "another"]
NOW_MS = START_MS + 10**9
"""After all events."""


def live(lane: Lane, log: Log, at: dict[int, int], count: int) -> list[Published]:
    """Read the next events and commit, as if to a store; the outbox entries of it."""
    batch = log.batch(at, count)
    lane.apply(batch)
    at.update({span.partition: span.stop for span in batch.spans})
    return commit(lane)


def commit(lane: Lane, *, heartbeat: bool = False) -> list[Published]:
    """What the lane's next commit hands to the publisher."""
    commits = lane.collect(heartbeat=heartbeat)
    lane.settle(commits)
    return [Published(c.shard, c.seq, decode_entry(c.changes)) for c in commits if c.changes]


def grown(seed: int, steps: int = 6) -> tuple[Lane, list[Published]]:
    """A lane after some steps of a log that depends on the seed alone, and what it has to say."""
    log = Log(random_events(random.Random(seed), 180, USERS))
    lane, at = new_lane(), dict.fromkeys(log.ends, 0)
    return lane, [entry for _ in range(steps) for entry in live(lane, log, at, 10)]


def held_by(lane: Lane) -> dict[str, set[str]]:
    """Who is in what, by the lane."""
    rows = lane.users.everybody()
    users = lane.users.ids.texts(rows).strings()
    held: dict[str, set[str]] = {user: set() for user in users}
    members = lane.decider.held(rows)
    for index, place in zip(members.index.tolist(), members.segment.tolist(), strict=True):
        held[users[index]].add(lane.decider.plan.names[place])
    return held


def column(lane: Lane, name: str) -> dict[str, int]:
    """A column by user."""
    rows = lane.users.everybody()
    return dict(
        zip(lane.users.ids.texts(rows).strings(), lane.table[name][rows].tolist(), strict=True)
    )


def last_told(entries: list[Published]) -> dict[str, list[str]]:
    """The segments that each user was last said to be in."""
    changes = [msgspec.json.decode(raw) for entry in entries for _, raw in entry.records]
    return {change["user_id"]: change["segments"] for change in changes}


def by_user(lane: Lane) -> dict[str, list]:
    """What waits to be said, by user."""
    said = defaultdict(list)
    for change in lane.decider.waiting:
        said[lane.users.ids[change.row]].append(change)
    return said


def assert_steps(changes, told, held):
    """Step by step, what a consumer was told becomes what the lane holds."""
    now = set(told)
    for change in changes:
        assert (change.segment in now) == (change.action == "exited"), change
        now ^= {change.segment}
        assert sorted(change.segments) == sorted(now)
    assert now == held
    assert len(changes) == len(set(told) ^ held)


told_lists = st.lists(st.sampled_from([*NAMES, *GONE]), unique=True)
told_maps = st.dictionaries(st.sampled_from([*USERS, *STRANGERS]), told_lists)
whens = st.sampled_from([0, START_MS, NOW_MS])


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 30), st.integers(0, 6), told_maps, whens)
def test_what_was_told_becomes_what_is_held(seed, steps, told, at_ms):
    lane, _ = grown(seed, steps)
    held, counts = held_by(lane), column(lane, "changes")
    seen = {user: lane.times(np.array([lane.users.find(user)]))[0] for user in counts}
    of_others = at_ms if lane.clock.now_ms == NEVER_MS else lane.clock.now_ms
    count = lane.recover(told, at_ms)
    said = by_user(lane)
    assert count == len(lane.decider.waiting)
    assert said.keys() <= told.keys()
    for user, names in told.items():
        assert_steps(said[user], names, held.get(user, set()))
        first = counts.get(user, 0) + 1
        numbers = [change.n for change in said[user]]
        assert numbers == list(range(first, first + len(numbers)))
        for change in said[user]:
            assert (change.cause.kind, change.cause.event_id) == ("recovery", None)
            assert change.ts == seen.get(user, of_others)  # by event time
            assert change.decided_at == at_ms
    after = column(lane, "changes")
    assert after.keys() == counts.keys()
    assert after == counts | {user: len(said[user]) + counts.get(user, 0) for user in after}
    assert {user: names for user, names in held_by(lane).items() if names} == {
        user: names for user, names in held.items() if names
    }


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), told_maps)
def test_what_is_said_is_committed_once(seed, told):
    lane, _ = grown(seed)
    known = held_by(lane).keys()
    count = lane.recover(told, NOW_MS)
    changed = {lane.users.ids[change.row] for change in lane.decider.waiting}
    commits = lane.collect()
    written = [user for c in commits for user in c.users.strings()]
    assert sorted(written) == sorted(changed & known)
    gone = [user.decode() for c in commits for user in c.gone]
    assert sorted(gone) == sorted(changed - known)
    operations = commits[0].writes.operations if commits else ()
    documents = [raw for o in operations if o.kind == "profile" for raw in o.values.bytes_list()]
    profiles = [msgspec.msgpack.decode(raw) for raw in documents]
    assert {p["user_id"]: p["changes"] for p in profiles} == {
        user: n for user, n in column(lane, "changes").items() if user in changed
    }
    records = [record for c in commits if c.changes for record in decode_entry(c.changes)]
    assert sum(not is_gone(raw) for _, raw in records) == count
    assert sorted(user.decode() for user, raw in records if is_gone(raw)) == sorted(gone)
    lane.settle(commits)
    assert lane.counters.changes["recovery"] == count
    assert (lane.collect(), list(lane.decider.waiting)) == ([], [])


def test_users_that_agree_are_not_mentioned():
    lane, entries = grown(3)
    held = held_by(lane)
    assert sum(map(len, held.values())) > len(USERS)
    assert lane.recover({user: sorted(names) for user, names in held.items()}, NOW_MS) == 0
    assert lane.recover({user: sorted(names)[::-1] for user, names in held.items()}, NOW_MS) == 0
    assert lane.recover(last_told(entries), NOW_MS) == 0
    assert lane.collect() == []


def test_a_stranger_is_told_out_of_everything_and_one_in_nothing_stays_a_stranger():
    lane = new_lane()
    assert lane.recover({"ann": ["keen", "big", "a_former_segment"], "bob": []}, NOW_MS) == 3
    assert list(lane.users.ids) == ["ann"]
    assert len(lane.users) == 0
    steps = [(c.action, c.segment, c.n, c.segments, c.ts) for c in lane.decider.waiting]
    assert steps == [
        ("exited", "keen", 1, ["big", "a_former_segment"], NOW_MS),
        ("exited", "big", 2, ["a_former_segment"], NOW_MS),
        ("exited", "a_former_segment", 3, [], NOW_MS),
    ]


def test_segments_that_no_longer_exist_are_left_by_name():
    lane, _ = grown(3)
    held = {user: sorted(names) for user, names in held_by(lane).items()}
    versions = dict(zip(lane.decider.plan.names, lane.decider.plan.versions, strict=True))
    told = {user: [GONE[0], *names[1:]] for user, names in held.items() if names}
    assert lane.recover(told, NOW_MS) == 2 * len(told)
    for user, (left, joined) in by_user(lane).items():
        assert (left.action, left.segment, left.version) == ("exited", GONE[0], 0)
        name = held[user][0]
        assert (joined.action, joined.segment) == ("entered", name)
        assert joined.version == versions[name] > 0


def test_a_change_of_label_leaves_before_it_enters():
    lane, _ = grown(3)
    user = next(user for user, names in held_by(lane).items() if "small" in names)
    held = sorted(held_by(lane)[user] - {"small"})
    assert lane.recover({user: [*held, "big"]}, NOW_MS) == 2
    steps = [(change.action, change.segment) for change in lane.decider.waiting]
    assert steps == [("exited", "big"), ("entered", "small")]


def test_a_later_history_goes_on_counting():
    """What happens after it continues the numbers, and folds from what was told.

    Strangers begin anew, in a higher epoch.
    """
    log = Log(random_events(random.Random(8), 180, USERS))
    lane, at = new_lane(), dict.fromkeys(log.ends, 0)
    live(lane, log, at, 10)
    told = {user: ["keen", "buyer", GONE[1]] for user in USERS}
    now = {user: set(names) for user, names in told.items()}
    counts, gone = column(lane, "changes"), {}
    strangers = told.keys() - counts.keys()
    lane.recover(told, START_MS)
    entries = commit(lane)
    while at != log.ends:
        entries += live(lane, log, at, 10)
    for entry in entries:
        for key, raw in entry.records:
            user, change = key.decode(), msgspec.json.decode(raw)
            if is_gone(raw):
                assert (now[user], change["n"]) == (set(), counts.pop(user))
                gone[user] = change["epoch"]
                continue
            now[user] ^= {change["segment"]}
            assert set(change["segments"]) == now[user]
            counts[user] = counts.get(user, 0) + 1
            assert change["n"] == counts[user]
            assert change["epoch"] > gone.get(user, -1)
    assert gone.keys() == strangers
    assert held_by(lane).keys() & strangers
    assert now == held_by(lane) | {user: set() for user in USERS if lane.users.find(user) < 0}


def test_only_a_sequence_beyond_the_stored_one_is_lost():
    published = {0: Position(7, 12), 1: Position(7, 3), 2: Position(9, 1), 64: Position(1, 99)}
    assert lost_shards(published, {0: 11, 1: 3, 2: 5, 3: 0}) == {0}
    assert lost_shards({}, {0: 0, 1: 7}) == set()


# -- over a broker ----------------------------------------------------------------------------


def topics_of(name):
    return Topics(name, f"{name}.memberships", f"{name}.positions", f"{name}.dead")


def publish(broker, topics, entries, name=""):
    courier = Courier({"bootstrap.servers": broker, "log_level": 0}, Terms(topics, name))
    courier.send(entries)
    courier.close(30)


def wrong(entry):
    """The same entry, but its users are said to be in other segments."""
    said = [(key, msgspec.json.decode(raw) | {"segments": GONE}) for key, raw in entry.records]
    return Published(entry.shard, entry.seq, [(key, msgspec.json.encode(c)) for key, c in said])


def config_of(broker):
    return {"bootstrap.servers": broker, "log_level": 0}


@pytest.mark.servers
def test_shards_that_have_lost_what_was_published_are_told(broker):
    """And only these: what the topic says of others is not questioned."""
    topics = topics_of("lost-history")
    _, entries = grown(5, steps=6)
    lane, _ = grown(5, steps=3)
    published = {entry.shard: entry.seq for entry in entries}
    lost = {s for s, seq in lane.sequences().items() if published.get(s, 0) > seq}
    assert 0 < len(lost) < len({lane.shard_of(user) for user in USERS})
    publish(broker, topics, [e if e.shard in lost else wrong(e) for e in entries])
    told = {u: names for u, names in last_told(entries).items() if lane.shard_of(u) in lost}
    held = held_by(lane)
    recover(lane, config_of(broker), topics, NOW_MS)
    said = by_user(lane)
    assert said
    assert said.keys() <= told.keys()
    for user, names in told.items():
        assert_steps(said[user], names, held.get(user, set()))


def test_times_of_a_user_do_not_fall_when_the_log_goes_on():
    log = Log(random_events(random.Random(3), 180, USERS))
    lane, at = new_lane(), dict.fromkeys(log.ends, 0)
    for _ in range(3):
        live(lane, log, at, 10)
    assert lane.recover({user: ["keen"] for user in USERS}, NOW_MS)
    entries = commit(lane)
    while at != log.ends:
        entries += live(lane, log, at, 10)
    newest: dict[str, int] = {}
    for change in (msgspec.json.decode(raw) for entry in entries for _, raw in entry.records):
        user, ts = change["user_id"], change["ts"]
        assert ts >= newest.get(user, 0)
        newest[user] = ts
    assert len(newest) > 5


@pytest.mark.servers
def test_whoever_published_ahead_of_its_time_is_outranked(broker):
    """A store that has lost everything, and an engine whose clock is behind that of the last."""
    topics = topics_of("published-ahead")
    ahead = time.time_ns() // 1_000_000 + 600_000
    lane, told = grown(7, steps=3)
    lane.outrank(dict.fromkeys(lane.shards, ahead))
    first = [*told, *commit(lane)]
    publish(broker, topics, first)
    again, at = new_lane(), dict.fromkeys(range(3), 0)
    recover(again, config_of(broker), topics, NOW_MS)
    log = Log(random_events(random.Random(7), 180, USERS))
    entries = commit(again)
    for _ in range(6):
        entries += live(again, log, at, 10)
    reached = published_positions(config_of(broker), topics.positions)
    again_there = [entry for entry in entries if entry.shard in reached]
    assert again_there
    for entry in again_there:
        epochs = {msgspec.json.decode(raw)["epoch"] for _, raw in entry.records}
        assert min(epochs) > reached[entry.shard].epoch
    publish(broker, topics, entries)
    standing = latest(config_of(broker), topics.memberships)
    told_of = {user: held for user, held in held_by(again).items() if user.encode() in standing}
    assert told_of
    for user, segments in told_of.items():
        assert set(msgspec.json.decode(standing[user.encode()])["segments"]) == segments


@pytest.mark.servers
def test_an_empty_store_takes_everything_back(broker):
    topics = topics_of("empty-store")
    _, entries = grown(6)
    publish(broker, topics, entries)
    lane = new_lane()
    recover(lane, config_of(broker), topics, NOW_MS)
    told = {user: names for user, names in last_told(entries).items() if names}
    said = by_user(lane)
    assert said.keys() == told.keys()
    for user, names in told.items():
        assert_steps(said[user], names, set())


@pytest.mark.servers
@pytest.mark.parametrize("ahead", [0, 1])
def test_shards_that_have_lost_nothing_are_left_alone(broker, ahead):
    """Whatever the topic says of their users: what differs is on its way from the outbox."""
    topics = topics_of(f"nothing-lost-{ahead}")
    lane, entries = grown(7)
    for _ in range(ahead):
        commit(lane, heartbeat=True)
    publish(broker, topics, [wrong(entry) for entry in entries])
    recover(lane, config_of(broker), topics, NOW_MS)
    assert not lane.decider.waiting


@pytest.mark.servers
def test_nothing_is_said_before_anything_was_published(broker):
    lane, _ = grown(7)
    recover(lane, config_of(broker), topics_of("nothing-published"), NOW_MS)
    assert not lane.decider.waiting


@pytest.mark.servers
def test_each_lane_speaks_for_its_own_shards(broker):
    topics = topics_of("two-lanes")
    _, entries = grown(6)
    publish(broker, topics, entries)
    told = {user for user, names in last_told(entries).items() if names}
    said = []
    for worker in range(2):
        lane = Lane(new_lane().plan, range(worker, 64, 2))
        recover(lane, config_of(broker), topics, NOW_MS)
        said += by_user(lane)
        assert all(lane.shard_of(user) % 2 == worker for user in by_user(lane))
    assert sorted(said) == sorted(told)


@pytest.mark.kafka
@needs_kafka
def test_what_a_dead_publisher_left_open_does_not_hold_it_up(kafka):
    """Its next one may wait for this very lane; what it had not committed was never told."""
    topics, config = topics_of("left-open"), config_of(kafka.bootstrap)
    make_topics(config, topics, "nothing")
    _, entries = grown(6)
    publish(kafka.bootstrap, topics, entries, "left-open-publisher")
    dead = Producer({**config, "transactional.id": "left-open-publisher"})
    dead.init_transactions(20)
    dead.begin_transaction()
    for shard in range(64):
        dead.produce(topics.positions, b'{"epoch":9,"seq":99}', str(shard).encode())
    for user in USERS:
        member = {"user_id": user, "epoch": 9, "n": 99, "ts": 0, "segments": ["another"]}
        dead.produce(topics.memberships, msgspec.json.encode(member), user.encode())
    assert dead.flush(20) == 0
    lane = new_lane()
    begun_s = time.monotonic()
    recover(lane, config, topics, NOW_MS)
    assert time.monotonic() - begun_s < 15
    dead.abort_transaction(20)
    told = {user: names for user, names in last_told(entries).items() if names}
    said = by_user(lane)
    assert said.keys() == told.keys()
    for user, names in told.items():
        assert_steps(said[user], names, set())


def test_who_was_forgotten_in_the_lost_history_is_told_anew(monkeypatch):
    """Consumers were told that a user is gone; in the store that came back the user is there."""
    lane, entries = grown(4)
    told = last_told(entries)
    held = {user: names for user, names in held_by(lane).items() if names}
    somebody_in = sorted(held)[:3]
    memberships = {
        user.encode(): msgspec.json.encode(
            {"user_id": user, "epoch": 1, "n": 1, "ts": 1, "segments": names}
        )
        for user, names in told.items()
        if user not in somebody_in
    }
    everywhere = {shard: Position(9, 10**6) for shard in lane.shards}
    monkeypatch.setattr("operators.recovery.published_positions", lambda *_, **__: everywhere)
    monkeypatch.setattr("operators.recovery.latest", lambda *_, **__: memberships)
    recover(lane, {}, Topics(), NOW_MS)
    said = by_user(lane)
    assert said.keys() == set(somebody_in)
    for user in somebody_in:
        assert_steps(said[user], [], held[user])


def test_who_was_forgotten_and_has_not_gone_over_to_other_definitions_is_told_anew(monkeypatch):
    """What such a user is in by earlier definitions ends in a change, so it must begin in one."""
    lane, _ = grown(4)
    were = {user: names for user, names in held_by(lane).items() if names}
    assert were
    lane.adopt(DefinitionSet([SegmentSpec("whale", "lifetime.orders >= 999")]))
    everywhere = {shard: Position(9, 10**6) for shard in lane.shards}
    monkeypatch.setattr("operators.recovery.published_positions", lambda *_, **__: everywhere)
    monkeypatch.setattr("operators.recovery.latest", lambda *_, **__: {})
    recover(lane, {}, Topics(), NOW_MS)
    lane.catch_up()
    said = by_user(lane)
    assert said.keys() == were.keys()
    for user, names in were.items():
        entered, exited = said[user][: len(names)], said[user][len(names) :]
        assert_steps(entered, [], names)
        assert_steps(exited, names, set())
        assert {change.cause.kind for change in exited} == {"definition"}


# -- a crash between a recovery and its publishing --------------------------------------------


def left_of(entries):
    """Entries as the outbox gives them."""
    return [Committed(e.shard, e.seq, encode_entry(list(e.records))) for e in entries]


def said_of(user, epoch, n, segments):
    return user.encode(), msgspec.json.encode(
        {"user_id": user, "epoch": epoch, "n": n, "ts": 0, "segments": segments}
    )


def test_only_the_last_word_of_what_has_not_arrived_counts():
    left = left_of(
        [
            Published(3, 5, [said_of("ann", 7, 1, ["keen"]), said_of("bob", 7, 1, ["keen"])]),
            Published(3, 6, [said_of("ann", 7, 2, ["keen", "buyer"]), said_of("cid", 7, 1, [])]),
            Published(3, 7, [Gone(user_id="bob", epoch=7, n=1, ts=0).record()]),
            Published(4, 2, [said_of("dan", 8, 1, ["warm"])]),
            Published(5, 2, [said_of("eva", 7, 1, ["warm"])]),
        ]
    )
    every = {"ann": ["keen", "buyer"], "bob": [], "cid": [], "dan": ["warm"], "eva": ["warm"]}
    assert yet_to_be_told(left, {}) == every
    # shard 3 is published up to 6, 4 and 5 beyond theirs by another history, an older and a later
    published = {3: Position(7, 6), 4: Position(7, 9), 5: Position(8, 1)}
    assert yet_to_be_told(left, published) == {"bob": [], "dan": ["warm"]}
    assert yet_to_be_told(left_of([Published(3, 5, [])]), {}) == {}


class Consumer:
    """Follows the topic through a courier's terms."""

    def __init__(self, broker, topics):
        self._reader = KafkaConsumer(
            {"bootstrap.servers": broker, "group.id": topics.changes, "enable.partition.eof": True}
        )
        found = self._reader.list_topics(topics.changes, timeout=20).topics[topics.changes]
        self._reader.assign([TopicPartition(topics.changes, p, 0) for p in found.partitions])
        self._ends = set(found.partitions)

    def changes(self):
        """All there are, in the order of each user."""
        out, ends = [], set(self._ends)
        while ends:
            message = self._reader.poll(20)
            if message.error():
                ends.discard(message.partition())
            else:
                out.append(msgspec.json.decode(message.value()))
        self._reader.close()
        return out


@pytest.mark.servers
@pytest.mark.parametrize("published", [0, 1], ids=["nothing", "a part"])
def test_a_crash_before_a_recovery_is_published_tells_nothing_twice(broker, store_url, published):
    """Lane and store are lost; the next lane has recovered and read on when it is killed, too."""
    topics = topics_of(f"killed-in-recovery-{published}")
    make_topics(config_of(broker), topics, "nothing")
    store = Store(store_url, "t")
    log = Log(random_events(random.Random(8), 180, USERS))

    def started():
        lane = new_lane()
        checkpoint = Checkpoint(lane, store)
        left = checkpoint.open()
        recover(lane, config_of(broker), topics, NOW_MS, left)
        return lane, checkpoint, left

    def read_on(lane, checkpoint, at, count):
        batch = log.batch(at, count)
        lane.apply(batch)
        at.update({span.partition: span.stop for span in batch.spans})
        return checkpoint.commit()

    def tell(committed):
        entries = [Published(c.shard, c.seq, decode_entry(c.changes)) for c in committed]
        publish(broker, topics, entries)
        store.outbox.trim((c.shard, c.seq) for c in committed)

    lane, checkpoint, _ = started()
    at = dict.fromkeys(log.ends, 0)
    tell([entry for _ in range(8) for entry in read_on(lane, checkpoint, at, 3)])
    store.client.flushall()
    lane, checkpoint, _ = started()
    assert len(lane.decider.waiting) > 10
    at = dict.fromkeys(log.ends, 0)
    committed = read_on(lane, checkpoint, at, 3)
    tell(committed[: published * len(committed) // 2])
    read_on(lane, checkpoint, at, 9)
    lane, checkpoint, left = started()
    assert left
    tell(left)
    tell(checkpoint.commit())
    while at != log.ends:
        tell(read_on(lane, checkpoint, at, 20))
    now = defaultdict(set)
    for change in Consumer(broker, topics).changes():
        held = now[change["user_id"]]
        assert (change["segment"] in held) == (change["action"] == "exited"), change
        held ^= {change["segment"]}
        assert set(change["segments"]) == held
    assert {user: names for user, names in now.items() if names} == {
        user: names for user, names in held_by(lane).items() if names
    }
    store.close()
