"""The timeline against a plain list of triples."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state.timeline import Timeline
from state.times import FAR_MS

START_MS = 1_790_000_000_000
time = st.integers(0, 30)
triples = st.lists(st.tuples(st.integers(0, 3), time), max_size=15)


@settings(max_examples=300)
@given(st.lists(triples, max_size=8), st.lists(st.tuples(time, time), min_size=4, max_size=4), time)
def test_finds_what_lies_between_and_what_comes_next(added, bounds, forgotten):
    held, ended = [], set()
    line = Timeline(lambda _, __, slots: np.array([s not in ended for s in slots.tolist()]))
    for batch in added:
        new = [(row, START_MS + t, len(held) + i) for i, (row, t) in enumerate(batch)]
        held += new
        line.add(*np.array(new, dtype=np.int64).reshape(-1, 3).T)
        if len(held) % 3 == 0:
            ended.add(len(held) // 2)
    line.forget(START_MS + forgotten)
    line.add(np.array([9]), np.array([START_MS + 99]), np.array([10_000]))
    rows = np.array([2, 0, 3, 1])
    after = START_MS + np.array([max(a, forgotten) for a, _ in bounds])
    until = START_MS + np.array([b for _, b in bounds])
    place, times, slots = line.between(rows, after, until)
    found = set(zip(rows[place].tolist(), times.tolist(), slots.tolist(), strict=True))
    lowest, highest = dict(zip(rows, after, strict=True)), dict(zip(rows, until, strict=True))
    wanted = {(row, t, s) for row, t, s in held if lowest[row] < t <= highest[row]}
    assert {f for f in found if f[2] not in ended} == {w for w in wanted if w[2] not in ended}
    assert found <= wanted
    assert len(found) == len(slots)
    for row, first, t in zip(rows, line.next_after(rows, after), after, strict=True):
        ahead = [(u, s) for r, u, s in held if r == row and u > t]
        assert first >= min((u for u, _ in ahead), default=FAR_MS)
        assert first <= min((u for u, s in ahead if s not in ended), default=FAR_MS)


def test_drops_what_no_longer_holds():
    at_ms = np.zeros(4, dtype=np.int64)
    line = Timeline(lambda _, times, slots: at_ms[slots] == times)
    for step in range(200):
        at_ms[:] = step
        line.add(np.zeros(4, dtype=np.int64), at_ms, np.arange(4))
    assert len(line) <= 60


def test_drops_what_nobody_will_ask_for():
    line, row = Timeline(lambda _, times, __: times > 0), np.zeros(1, dtype=np.int64)
    for step in range(1, 500):
        line.forget(step - 10)
        line.add(row, np.array([step]), row)
    assert len(line) <= 40
