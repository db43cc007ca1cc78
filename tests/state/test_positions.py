"""A gap between a shard's position and the next span is noticed, whoever else is there."""

import numpy as np
import pytest

from events.batch import Span
from state.positions import GapError, Positions

NOTHING = np.empty(0, dtype=np.int64)


def taken(positions, *spans):
    positions.fresh(spans, lambda: NOTHING, NOTHING.astype(np.int32), NOTHING)
    positions.advance(spans)


def test_a_gap_is_noticed_beside_a_shard_that_has_no_position_yet():
    positions = Positions([3, 7])
    positions.restore(3, {0: 10})
    with pytest.raises(GapError, match=r"must start at offset 10 or before.* but starts at 11"):
        taken(positions, Span(0, 11, 12))
    taken(positions, Span(0, 9, 12))
    assert positions.of(3) == positions.of(7) == {0: 12}


def test_who_has_no_position_begins_where_reading_begins():
    positions = Positions([3, 7])
    taken(positions, Span(0, 500, 510))
    assert positions.of(3) == {0: 510}
    with pytest.raises(GapError):
        taken(positions, Span(0, 511, 512))
