"""Last writer wins, in any order and any batching."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state.groups import group
from state.latest import Latest
from state.table import Table
from state.times import NEVER_MS

ROWS = 3

# few times, so that hashes decide; an event is told by its hash and never comes twice
events = st.lists(
    st.tuples(
        st.integers(0, ROWS - 1), st.integers(0, 3), st.integers(0, 2**64 - 1), st.integers(-1, 4)
    ),
    max_size=30,
    unique_by=lambda event: event[2],
)


@given(events, st.data())
@settings(max_examples=150, deadline=None)
def test_the_last_in_event_time_wins(stream, data):
    table, latest = Table(capacity=1), Latest("device")
    table.add_columns("", latest.columns())
    rows = table.grow(ROWS)
    left = data.draw(st.permutations(stream))
    while left:
        size = data.draw(st.integers(1, len(left)))
        batch, left = left[:size], left[size:]
        row, ts, tie, code = zip(*batch, strict=True)
        latest.update(
            table,
            group(np.array(row)),
            np.array(ts),
            np.array(tie, dtype=np.uint64),
            np.array(code, dtype=np.int32),
        )
    for row in rows.tolist():
        said = [event[1:] for event in stream if event[0] == row and event[3] >= 0]
        ts, _, code = max(said, default=(NEVER_MS, 0, -1))
        assert (latest.at_ms(table, rows)[row], latest.code(table, rows)[row]) == (ts, code)
