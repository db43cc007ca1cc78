"""The clock waits for every partition of the log, follows the slowest, and never goes back."""

from hypothesis import given
from hypothesis import strategies as st

from events.batch import Span
from state.clock import Clock
from state.times import NEVER_MS

LATENESS_MS = 5_000
DELAY_MS = 500


def new_clock() -> Clock:
    return Clock(LATENESS_MS, DELAY_MS)


def seen(partition, ts_ms, *, at_end=False):
    return Span(partition, 0, 1, max_ts_ms=ts_ms, at_end=at_end)


def test_time_stands_still_until_every_partition_was_heard_of():
    clock = new_clock()
    assert clock.observe([seen(0, 100_000)], 900_000, 3) == NEVER_MS
    assert clock.observe([seen(2, 80_000)], 900_000, 3) == NEVER_MS
    assert clock.observe([], 900_000, 3) == NEVER_MS
    assert clock.observe([seen(1, 90_000)], 900_000, 3) == 80_000 - LATENESS_MS


def test_neither_the_wall_nor_the_end_of_the_rest_moves_it_before():
    clock = new_clock()
    assert clock.observe([seen(0, 100_000, at_end=True)], 900_000, 2) == NEVER_MS
    assert clock.observe([seen(0, 100_000, at_end=True)], None, 2) == NEVER_MS
    assert clock.observe([seen(1, -1, at_end=True)], 900_000, 2) == 900_000 - DELAY_MS


def test_a_committed_clock_stands_where_it_was_until_then():
    clock = new_clock()
    clock.restore(70_000)
    assert clock.observe([seen(0, 100_000)], 900_000, 2) == 70_000
    assert clock.observe([seen(1, 60_000)], 900_000, 2) == 70_000
    assert clock.observe([seen(1, 90_000)], 900_000, 2) == 90_000 - LATENESS_MS


def test_more_partitions_stop_it_until_they_are_heard_of():
    clock = new_clock()
    assert clock.observe([seen(0, 100_000)], partitions=1) == 95_000
    assert clock.observe([seen(0, 200_000)], partitions=3) == 95_000
    assert clock.observe([seen(1, 150_000)], partitions=3) == 95_000
    assert clock.observe([seen(2, 120_000)], partitions=3) == 115_000


def test_a_reader_that_knows_of_fewer_does_not_let_it_go():
    clock = new_clock()
    for known in (3, 1, 0):
        assert clock.observe([seen(0, 100_000)], 900_000, known) == NEVER_MS


def test_a_log_of_which_nobody_says_how_many_it_has_moves_at_once():
    assert new_clock().observe([seen(0, 100_000)]) == 95_000


def test_a_new_partition_that_lags_does_not_bring_it_back():
    clock = new_clock()
    assert clock.observe([seen(0, 100_000)], partitions=1) == 95_000
    assert clock.observe([seen(1, 10_000)], partitions=2) == 95_000
    assert clock.observe([seen(0, 500_000), seen(1, 110_000)], partitions=2) == 105_000


SPANS = st.builds(seen, st.integers(0, 3), st.integers(-1, 1_000_000), at_end=st.booleans())
STEPS = st.lists(
    st.tuples(
        st.lists(SPANS, max_size=3),
        st.none() | st.integers(0, 1_000_000),
        st.integers(0, 4),
    ),
    max_size=30,
)


@given(STEPS)
def test_it_never_goes_back_nor_past_a_partition_with_input(steps):
    clock, heard, known, before = new_clock(), {}, 0, NEVER_MS
    for spans, wall_ms, partitions in steps:
        now_ms = clock.observe(spans, wall_ms, partitions)
        known = max(known, partitions)
        for span in spans:
            newest = max(span.max_ts_ms, heard.get(span.partition, (-1, False))[0])
            heard[span.partition] = newest, span.at_end
        assert now_ms == clock.now_ms >= before
        if len(heard) < known:
            assert now_ms == before
        elif now_ms > before:
            behind = [newest for newest, ended in heard.values() if not ended]
            end = max(newest for newest, _ in heard.values()) if heard else 0
            last = end - LATENESS_MS if wall_ms is None else wall_ms - DELAY_MS
            assert now_ms == (min(behind) - LATENESS_MS if behind else last)
        before = now_ms
