"""The cuts in force: who measures them, who takes them over, and the sweep after new ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.decode import Decoder
from events.schema import EventRules
from events.texts import Texts
from state.lane import Lane
from state.rfm import Cuts, RfmSpec
from state.times import DAY_MS, MINUTE_MS, SECOND_MS
from tests.state.streams import START_MS, feed, plan, read_of

FIXED = Cuts(1, 0, (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0), (10.0, 20.0, 30.0, 40.0))


def purchases(users, *, first=0):
    """One or more purchases of each, on days and at prices that tell them apart."""
    return [
        {
            "event_id": f"e{n}-{k}",
            "user_id": f"u{n}",
            "type": "purchase",
            "ts": START_MS + (n * 37 % 60) * DAY_MS + k * MINUTE_MS,
            "amount": 1 + n * 7 % 90,
            "order_id": f"o{n}-{k}",
        }
        for n in range(first, first + users)
        for k in range(1 + n % 3)
    ]


def lane_of(users, *, shards=range(64), **changes):
    """A lane that knows so many buyers."""
    lane = Lane(plan(rfm=changes.pop("rfm", RfmSpec()), **changes), shards)
    feed(lane, purchases(users))
    return lane


def cuts_of(version):
    """Cuts that score everybody otherwise than those one version older."""
    low = np.array([1.0, 2.0, 3.0, 4.0]) + (0 if version % 2 else 1_000)
    edges = tuple(low.tolist())
    return Cuts(version, START_MS, edges, edges, edges, ("", "", "", ""), 10)


class Sweep:
    """Steps the sweep of a real lane and keeps whom each step has looked at."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.version = lane.population.cuts.version

    def renew(self) -> None:
        """Newer cuts come from the lane that measures."""
        self.version += 1
        self.lane.population.adopt(cuts_of(self.version).encode(), self.lane.table.size)

    def step(self, count: int) -> tuple[list[int], list[int]]:
        """The rows looked at, and those whose scores differ; these are decided anew."""
        lane, checked = self.lane, []
        times = np.maximum(lane.table["as_of"], lane.clock.now_ms)

        def view_of(rows):
            checked.extend(rows.tolist())
            return lane.view(rows, times[rows])

        moved = lane.population.moved(count, view_of, lane.table)
        if len(moved):
            lane.table["rfm"][moved] = lane.measures.rfm.scores(lane.view(moved, times[moved]))
        return checked, moved.tolist()


def steps_round(size, count):
    """As many steps as one round may take, which may begin anywhere."""
    return -(-size // count) + 1


def test_cuts_that_change_at_every_step_leave_nobody_out():
    size, count = 50, 8
    sweep = Sweep(lane_of(size))
    checked = []
    for _ in range(4 * steps_round(size, count)):
        sweep.renew()
        checked.append(set(sweep.step(count)[0]))
    within = steps_round(size, count)
    for at in range(len(checked) - within):
        assert set().union(*checked[at : at + within]) == set(range(size)), at


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_everybody_is_looked_at_after_the_last_new_cuts(data):
    size, count = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 45))
    sweep = Sweep(lane_of(size))
    for renew in data.draw(st.lists(st.booleans(), max_size=12)):
        if renew:
            sweep.renew()
        sweep.step(count)
    sweep.renew()
    checked = [sweep.step(count)[0] for _ in range(steps_round(size, count))]
    rows = list(itertools.chain.from_iterable(checked))
    assert sorted(rows) == list(range(size))
    assert sweep.step(count) == ([], [])


def test_newcomers_take_no_step_away_from_those_who_were_there():
    sweep = Sweep(lane_of(10))
    sweep.renew()
    sweep.step(5)
    sweep.renew()
    sweep.lane.users.rows(Texts.of([f"new{n}" for n in range(5)]))
    checked = {row for _ in range(9) for row in sweep.step(5)[0]}
    assert checked >= set(range(10))


def test_a_step_names_those_whose_scores_differ_and_nobody_else():
    sweep = Sweep(lane_of(20))
    sweep.renew()
    checked, moved = sweep.step(20)
    assert checked == moved == list(range(20))
    sweep.lane.population.adopt(cuts_of(sweep.version).encode(), 20)  # no newer ones
    assert sweep.step(20) == ([], [])
    sweep.version += 1  # the next is as the last but one, so scores stay as they are
    sweep.renew()
    assert sweep.step(20) == (list(range(20)), [])


def test_restored_cuts_are_held_against_everybody():
    lane = lane_of(20)
    lane.population.restore(cuts_of(9).encode(), lane.table.size)
    assert lane.population.cuts == cuts_of(9)
    assert Sweep(lane).step(30)[0] == list(range(20))


def test_a_lane_that_measures_says_its_cuts_once_and_counts_them_up():
    lane = lane_of(200)
    first = lane.population.cuts
    assert (first.version, first.users) == (1, 200)
    raw = lane.population.new_cuts()
    assert raw is not None
    assert Cuts.decode(raw) == first
    assert lane.population.new_cuts() is None
    later = [e | {"ts": e["ts"] + 61 * DAY_MS} for e in purchases(100, first=200)]
    batch, _ = Decoder(EventRules())(read_of(later, len(purchases(200))))
    lane.apply(batch)
    assert (lane.population.cuts.version, lane.population.cuts.users) == (2, 300)


def test_it_measures_when_time_has_passed_and_somebody_has_acted():
    population = lane_of(5, cuts_every_ms=10 * SECOND_MS).population
    now_ms, events = START_MS + 100 * DAY_MS, 1_000
    assert population.is_stale(now_ms, events)
    assert not population.is_stale(now_ms + 10 * SECOND_MS, events)
    assert not population.is_stale(now_ms + 10 * SECOND_MS - 1, events + 1)
    assert population.is_stale(now_ms + 10 * SECOND_MS, events + 1)


def test_a_lane_that_does_not_measure_takes_over_what_is_newer():
    lane = lane_of(50, shards=range(1, 64))
    population = lane.population
    assert not population.measures
    assert not population.is_stale(START_MS + 900 * DAY_MS, 10**6)
    assert (population.cuts, population.new_cuts()) == (Cuts(), None)
    for version, held in [(3, 3), (2, 3), (3, 3), (4, 4)]:
        population.adopt(cuts_of(version).encode(), lane.table.size)
        assert population.cuts == cuts_of(held)
    population.adopt(None, lane.table.size)
    assert population.cuts == cuts_of(4)
    assert population.new_cuts() is None


def test_an_older_set_is_not_swept_for():
    lane = lane_of(20, shards=range(1, 64))
    sweep = Sweep(lane)
    lane.population.adopt(cuts_of(5).encode(), 20)
    assert len(sweep.step(20)[0]) == 20
    lane.population.adopt(cuts_of(4).encode(), 20)
    assert sweep.step(20) == ([], [])


def test_fixed_cuts_stay():
    lane = lane_of(50, rfm=RfmSpec(basis="lifetime", fixed=FIXED))
    population = lane.population
    population.adopt(cuts_of(7).encode(), 50)
    assert population.cuts == FIXED
    population.restore(cuts_of(8).encode(), 50)
    assert population.cuts == FIXED
    lane.finish(START_MS + 400 * DAY_MS)
    assert population.cuts == FIXED
    assert population.new_cuts() is None
    assert not population.is_stale(START_MS + 900 * DAY_MS, 10**6)


@pytest.mark.parametrize("size", [1, 2**18 - 1, 2**18, 2**18 + 1, 10**6, 3 * 10**6])
def test_a_sample_is_regular_and_at_least_half_as_large_as_promised(size):
    rows = lane_of(0).population.sample(size)
    assert len(rows) >= min(size, 2**17)
    assert rows[0] == 0
    assert rows[-1] < size
    assert len(set(np.diff(rows).tolist())) <= 1
