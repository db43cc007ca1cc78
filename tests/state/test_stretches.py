"""Uniting intervals against going through them one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state.stretches import Stretches

Interval = tuple[int, int, int, int, int]

intervals = st.lists(
    st.builds(
        lambda owner, start, length, views, carts: (owner, start, start + length, views, carts),
        *(st.integers(0, 3), st.integers(-50, 200), st.integers(0, 30)),
        *(st.integers(0, 3), st.integers(0, 3)),
    ),
    max_size=30,
)


def stretches(parts: list[Interval]) -> Stretches:
    return Stretches(*np.array(parts, dtype=np.int64).reshape(-1, 5).T)


def listed(s: Stretches) -> list[Interval]:
    columns = (s.owner, s.start, s.end, s.views, s.carts)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def naive(parts: list[Interval], gap_ms: int) -> list[Interval]:
    out: list[Interval] = []
    for owner, start, end, views, carts in sorted(parts):
        if out and out[-1][0] == owner and start <= out[-1][2] + gap_ms:
            _, first, reached, v, c = out.pop()
            out.append((owner, first, max(reached, end), v + views, c + carts))
        else:
            out.append((owner, start, end, views, carts))
    return out


@given(intervals, st.integers(0, 20), st.data())
@settings(max_examples=150, deadline=None)
def test_uniting_knows_no_order_and_no_parts(parts, gap_ms, data):
    expected = naive(parts, gap_ms)
    shuffled = data.draw(st.permutations(parts))
    cut = data.draw(st.integers(0, len(parts)))
    assert listed(stretches(shuffled).united(gap_ms)) == expected
    first = stretches(shuffled[:cut]).united(gap_ms)
    assert listed((first + stretches(shuffled[cut:])).united(gap_ms)) == expected


def test_years_between_many_owners_do_not_overflow():
    owner = np.arange(200_000)
    ts = np.where(owner % 2, 1_790_000_000_000, 0)
    ones = np.ones_like(owner)
    whole = Stretches(
        np.repeat(owner, 2), np.repeat(ts, 2), np.repeat(ts, 2), *[np.repeat(ones, 2)] * 2
    )
    assert len(whole.united(1_800_000)) == len(owner)
