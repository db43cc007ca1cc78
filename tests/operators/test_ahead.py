"""A reader is never further ahead of a lane elsewhere than it may be, and never stops for good."""

from hypothesis import given
from hypothesis import strategies as st

from operators.ahead import TOLD_S, Ahead

MOST = 100


@given(
    st.lists(st.integers(0, 1_000), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 80), st.lists(st.integers(0, 60), min_size=2, max_size=2))),
)
def test_what_is_on_its_way_stays_bounded(starts, steps):
    """Each step a read, then what each of two lanes takes of it."""
    places = dict(enumerate(starts))
    lanes = [dict(places), dict(places)]
    ahead = Ahead(MOST, lambda: [dict(lane) for lane in lanes])
    for number, (asked, taken) in enumerate(steps):
        room = ahead.room(places, number * TOLD_S)
        behind = [sum(places[p] - lane[p] for p in places) for lane in lanes]
        together = sum(places[p] - min(lane[p] for lane in lanes) for p in places)
        assert room == max(MOST - together, 0)
        assert max(behind) <= MOST
        places[number % len(places)] += min(asked, room)
        for lane, count in zip(lanes, taken, strict=True):
            for p in places:
                lane[p] = min(lane[p] + count, places[p])


def test_it_asks_now_and_then():
    asked = []
    ahead = Ahead(MOST, lambda: asked.append(1) or [{0: 5}])
    for step in range(9):
        ahead.room({0: 5}, step * TOLD_S / 4)
    assert len(asked) == 3


def test_without_answer_it_stands_what_was_said():
    answers = [[{0: 50}], None, [{0: 60}]]
    ahead = Ahead(MOST, lambda: answers.pop(0))
    assert ahead.room({0: 40}, 0 * TOLD_S) == MOST
    assert ahead.room({0: 140}, 1 * TOLD_S) == 10
    assert ahead.room({0: 140}, 2 * TOLD_S) == 20


def test_before_anybody_answers_no_more_is_read_than_may_be_on_its_way():
    ahead = Ahead(MOST, lambda: None)
    assert ahead.room({0: 40}, 0.0) == MOST
    assert ahead.room({0: 140}, 0.1) == 0


def test_what_a_former_life_said_counts_from_where_this_one_began():
    ahead = Ahead(MOST, lambda: [{0: 7, 1: 900}])
    assert ahead.room({0: 40, 1: 0}, 0.0) == MOST
    assert ahead.room({0: 90, 1: 60}, 0.1) == 50, "one is behind where reading began, one far ahead"


def test_a_partition_that_comes_later_counts_from_its_first_place():
    ahead = Ahead(MOST, lambda: [{0: 10}])
    ahead.room({0: 10}, 0.0)
    assert ahead.room({0: 10, 1: 500}, 0.1) == MOST
    assert ahead.room({0: 10, 1: 530}, 0.2) == 70
