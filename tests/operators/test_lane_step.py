"""When a lane commits: at once where nothing waits, and together what waits anyway."""

import time
from dataclasses import replace

import pytest

from events.decode import Decoder
from events.schema import EventRules
from operators.ahead import TOLD_S
from operators.broker_errors import SourceError
from operators.lane_step import CommitPolicy, LaneLogic
from operators.metrics import Metrics
from state.checkpoint import Checkpoint
from state.lane import Lane
from state.segments import SegmentSpec
from state.store import Store
from tests.state.streams import START_MS, plan, read_of

pytestmark = pytest.mark.servers

PATIENT = CommitPolicy(max_events=10, max_delay_s=60)


@pytest.fixture
def open_logic(store_url):
    """Opens a lane over an empty store."""
    store = Store(store_url, "t", 64)

    def open_one(policy, segments=(), wall=None, **more):
        lane = Lane(plan(segments=segments), range(64))
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        return LaneLogic(lane, checkpoint, policy, wall, Metrics(), **more), lane

    yield open_one
    store.close()


def batch(number, *, partition=0, events=1, more):
    """The ``number``-th batch of a partition, of users of its own."""
    first = number * events
    some = [
        {"event_id": f"{partition}-{n}", "user_id": f"u{partition}-{n}", "type": "search"}
        | {"ts": START_MS + n}
        for n in range(first, first + events)
    ]
    read = read_of(some, first, partition=partition)
    read.more = more
    decoded, letters = Decoder(EventRules())(read)
    assert not letters
    return decoded


def committed(logic, lane, *batches):
    """How many users are committed after some batches came."""
    logic.on_batch(list(batches))
    return lane.counters.committed


def test_what_is_not_followed_is_committed_at_once(open_logic):
    logic, lane = open_logic(PATIENT)
    assert [committed(logic, lane, batch(n, more=False)) for n in range(3)] == [1, 2, 3]


def test_while_more_waits_batches_are_committed_together(open_logic):
    logic, lane = open_logic(PATIENT)
    assert [committed(logic, lane, batch(n, more=n < 2)) for n in range(3)] == [0, 0, 3]


def test_no_more_than_the_most_events_wait(open_logic):
    logic, lane = open_logic(PATIENT)
    found = [committed(logic, lane, batch(n, events=4, more=True)) for n in range(4)]
    assert found == [0, 0, 12, 12]


def test_nothing_waits_longer_than_the_delay(open_logic):
    logic, lane = open_logic(CommitPolicy(max_delay_s=0))
    assert [committed(logic, lane, batch(n, more=True)) for n in range(3)] == [1, 2, 3]


def test_a_reader_at_its_end_does_not_hurry_what_another_is_behind_with(open_logic):
    logic, lane = open_logic(PATIENT)
    assert committed(logic, lane, batch(0, partition=0, more=True)) == 0
    assert committed(logic, lane, batch(0, partition=1, more=False)) == 0
    both = batch(1, partition=1, more=False), batch(1, partition=0, more=True)
    assert committed(logic, lane, *both) == 0
    assert committed(logic, lane, batch(2, partition=0, more=False)) == 5
    assert committed(logic, lane, batch(2, partition=1, more=False)) == 6


def applied(logic, lane, *batches):
    """How many events are applied after some batches came."""
    logic.on_batch(list(batches))
    return lane.counters.events


def test_while_more_waits_small_batches_are_applied_together(open_logic):
    logic, lane = open_logic(CommitPolicy(max_delay_s=60, gather_events=3))
    found = [applied(logic, lane, batch(n, more=n < 4)) for n in range(6)]
    assert found == [0, 0, 3, 3, 5, 6]
    assert lane.counters.committed == 6


def test_no_small_batch_is_kept_longer_than_the_delay(open_logic):
    logic, lane = open_logic(CommitPolicy(max_delay_s=0.2))
    assert applied(logic, lane, batch(0, more=True)) == 0
    time.sleep(0.2)
    assert applied(logic, lane, batch(1, more=True)) == 2


def test_the_end_commits_what_waits(open_logic):
    logic, lane = open_logic(PATIENT)
    assert committed(logic, lane, batch(0, more=True)) == 0
    logic.on_eof()
    assert lane.counters.committed == 1


def test_the_lane_says_where_it_is(open_logic):
    said = []
    logic, lane = open_logic(PATIENT, say_place=said.append)
    assert applied(logic, lane, batch(0, more=False)) == 1
    for number, more in (1, False), (2, True):
        said.clear()
        time.sleep(TOLD_S)
        applied(logic, lane, batch(number, more=more))
        assert {place[0] for place in said} == {2}, "what is kept is not taken yet"


# ahead of the store

AHEAD = CommitPolicy(max_events=10, max_delay_s=60, ahead=True)
BUYERS = [SegmentSpec("buyer", enter="lifetime.orders >= 1")]


def buyer(number):
    """A batch of one user who enters a segment."""
    event = {"event_id": f"b{number}", "user_id": f"u{number}", "type": "purchase"}
    event |= {"ts": START_MS + number, "amount": 5, "order_id": f"o{number}"}
    read = read_of([event], number)
    read.more = False
    return Decoder(EventRules())(read)[0]


def told(items):
    """Whose changes are handed on."""
    return [key.decode() for item in items for key, _ in item.records]


def test_changes_are_handed_on_when_their_commit_is_known_to_be_stored(open_logic, store_url):
    logic, _ = open_logic(AHEAD, BUYERS)
    found = [told(logic.on_batch([buyer(number)])[0]) for number in range(3)]
    assert [sorted(set(users)) for users in found] == [[], ["u0"], ["u1"]]
    assert sorted(set(told(logic.on_eof()[0]))) == ["u2"]
    store = Store(store_url, "t", 64)
    assert {user for shard in range(64) for user, _ in store.profiles(shard)} == {"u0", "u1", "u2"}
    store.close()


def test_who_waits_is_handed_changes_at_once(open_logic):
    logic, _ = open_logic(PATIENT, BUYERS)
    assert sorted(set(told(logic.on_batch([buyer(0)])[0]))) == ["u0"]


def test_a_clock_that_was_set_back_by_days_ends_the_engine(open_logic):
    """Else it would take every event for one of the future."""
    walls = [START_MS, START_MS - 86_400_000, START_MS - 3 * 86_400_000]
    logic, lane = open_logic(PATIENT, wall=lambda: walls[0])
    for number in range(2):
        caught_up = batch(number, more=False)
        caught_up.spans = [replace(span, at_end=True) for span in caught_up.spans]
        logic.on_batch([caught_up])
        walls.pop(0)
    with pytest.raises(SourceError, match=r"this machine's clock says .* set the clock"):
        logic.on_batch([batch(2, more=False)])
    assert lane.counters.events == 2
