"""The time queue and its alarms against a list that is searched from end to end."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state.alarms import Alarms
from state.queue import TimeQueue
from state.times import FAR_MS

times = st.integers(-50, 50)
pushes = st.lists(st.tuples(times, st.integers(0, 9)), max_size=20)


def arrays(pairs):
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def pairs(found):
    return list(zip(found[0].tolist(), found[1].tolist(), strict=True))


@settings(max_examples=300)
@given(st.lists(st.tuples(pushes, times), max_size=20))
def test_pairs_come_out_in_order_and_once(steps):
    queue, waiting = TimeQueue(), []
    for pushed, until in steps:
        queue.push(*arrays(pushed))
        waiting += pushed
        assert queue.min_ms() == min((t for t, _ in waiting), default=FAR_MS)
        due = sorted(pair for pair in waiting if pair[0] <= until)
        assert pairs(queue.peek_until(until)) == due
        assert pairs(queue.pop_until(until)) == due
        waiting = [pair for pair in waiting if pair[0] > until]
        assert len(queue) == len(waiting)


def test_runs_stay_few_however_small_the_pushes():
    queue, rng = TimeQueue(), np.random.default_rng(5)
    for _ in range(3_000):
        queue.push(rng.integers(0, 10**9, 2), np.array([1, 2]))
    assert len(queue._runs.runs) <= 14
    assert queue.bytes_held() == 6_000 * 12


@settings(max_examples=300)
@given(st.lists(st.tuples(pushes, st.integers(0, 6)), max_size=25))
def test_an_id_rings_when_its_time_has_come_however_often_it_moved(steps):
    alarms, due_ms, clock = Alarms(), np.full(10, FAR_MS), -60
    for moves, ahead in steps:
        for at, i in moves:
            due_ms[i] = at
        alarms.set(arrays(moves)[1], due_ms[arrays(moves)[1]])
        clock += ahead
        rung = alarms.ring(clock, due_ms)
        assert rung.tolist() == np.flatnonzero(due_ms <= clock).tolist()
        due_ms[rung] = FAR_MS


def test_an_id_that_is_put_off_again_and_again_has_one_alarm():
    alarms, due_ms = Alarms(), np.zeros(3, dtype=np.int64)
    for step in range(500):
        due_ms[:] = 100 + step
        alarms.set(np.arange(3), due_ms)
        assert len(alarms.ring(step, due_ms)) == 0
    assert len(alarms) == 3


def test_alarms_that_have_become_stale_leave_no_more_behind():
    alarms, due_ms = Alarms(), np.array([0])
    for nearer in range(100, 0, -1):
        due_ms[0] = nearer
        alarms.set(np.array([0]), due_ms)
    due_ms[0] = 200
    assert len(alarms.ring(100, due_ms)) == 0
    assert len(alarms) == 1
    assert alarms.ring(200, due_ms).tolist() == [0]


def test_many_pairs_of_few_times_come_out_in_order():
    queue, rng = TimeQueue(), np.random.default_rng(6)
    times, ids = rng.integers(0, 40, 5_000), rng.permutation(5_000)
    for start in range(0, 5_000, 700):
        queue.push(times[start : start + 700], ids[start : start + 700])
    assert pairs(queue.pop_until(30)) == sorted(pairs((times[times <= 30], ids[times <= 30])))
