"""The pace of examples, beside what a plain count allows."""

from hypothesis import given
from hypothesis import strategies as st

from models.pace import Pace

steps = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 40), st.booleans()), min_size=1, max_size=200
)


@given(steps, st.sampled_from([1, 50, 400]), st.sampled_from([40, 64, 2_000]))
def test_no_more_are_made_than_time_allows(steps, per_s, most):
    pace, now_ms, newest_ms, made = Pace(per_s, most), 1_790_000_000_000, 0, []
    for passed_ms, wanted, late in steps:
        now_ms += passed_ms
        found = pace.take(wanted, now_ms - 5_000 * late)
        assert 0 <= found <= wanted
        newest_ms = max(newest_ms, now_ms - 5_000 * late)
        made.append((newest_ms, found))
    for first in range(len(made)):  # in any stretch: what may be saved up, and what it brings
        passed_ms = made[-1][0] - made[first][0]
        assert sum(n for _, n in made[first:]) <= most + passed_ms * per_s / 1000 + 1


@given(st.integers(1, 5), st.integers(100, 2_000))
def test_a_quiet_stream_loses_none(wanted, every_ms):
    pace = Pace(per_s=50, most=64)
    assert all(pace.take(wanted, n * every_ms) == wanted for n in range(200))


def test_a_busy_stream_has_as_many_as_it_may_and_pauses_between():
    pace = Pace(per_s=50, most=64)
    made = [pace.take(8, now_ms) for now_ms in range(0, 60_000, 10)]
    assert 0.95 < sum(made) / (64 + 60 * 50) <= 1
    assert sum(map(bool, made)) < len(made) / 8  # they are made together
    assert set(made[1_000:]) <= {0, *range(1, 9)}


def test_a_clock_that_goes_back_gives_nothing():
    pace = Pace(per_s=50, most=40)
    assert pace.take(40, 10_000) == 40
    assert [pace.take(1, now_ms) for now_ms in (0, 9_000, 10_000, 0, 10_600)] == [0] * 5
    assert pace.take(40, 10_700) == 35
