"""A board gives items spots as a dictionary does, and forgets them all at once."""

import numpy as np
import pytest

from models.board import clear, new_slots, spot_of

SPOT = np.dtype([("row", "i4"), ("weight", "f4")])


def placed(slots, spots, rows):
    """The spot of each row, and how many were given."""
    given, out = 0, []
    for row in rows:
        out.append(spot_of(slots, spots, row, given))
        given += out[-1] == given
    return out, given


def numbered(rows):
    known = {}
    return [known.setdefault(row, len(known)) for row in rows], len(known)


@pytest.mark.parametrize("size", [1, 2, 7, 300])
@pytest.mark.parametrize("spread", [1, 256, 1 << 20])
def test_spots_are_given_in_order_round_after_round(size, spread):
    rng = np.random.default_rng(size)
    slots, spots = new_slots(size), np.zeros(size, SPOT)
    for _ in range(20):
        clear(slots)
        rows = (rng.integers(0, size, 3 * size) * spread).tolist()
        assert placed(slots, spots, rows) == numbered(rows)


def test_rounds_begin_again_after_the_last():
    slots, spots = new_slots(8), np.zeros(8, SPOT)
    first = [5, 9, 5, 2]
    assert placed(slots, spots, first) == numbered(first)  # in round 1
    slots[-1] = (1 << 32) - 1
    clear(slots)
    assert slots[-1] == 1
    assert spot_of(slots, spots, 9, 0) == 0  # what round 1 left behind is gone
