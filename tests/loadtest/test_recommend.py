"""Recommendations are asked for before they are learned, and measured as is written."""

import gzip
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.evaluate.recommend.batch import Retrained, cosine, ease, visited_together
from loadtest.evaluate.recommend.joined import Filled, Reminders
from loadtest.evaluate.recommend.logs import Source, interactions
from loadtest.evaluate.recommend.measures import hit_rate, reciprocal_rank
from loadtest.evaluate.recommend.personal import OwnFrequent
from loadtest.evaluate.recommend.popularity import Popularity
from loadtest.evaluate.recommend.walk import (
    ANY,
    NEW,
    NEXT,
    after_one_event,
    from_half,
    of_new_items,
    walk,
)

EVENTS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("pqrstu")), max_size=40)


def log_of(events, turns=None):
    users, items = [user for user, _ in events], [item for _, item in events]
    return interactions("x", users, items, range(len(events)), turns)


@dataclass
class Fixed:
    """Always the same list; notes what it is told and asked."""

    items: list
    name: str = "fixed"
    told: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    def observe(self, user, item, ts_ms, weight=1.0):
        self.told.append((user, item, ts_ms, weight))

    def recommend(self, user, ts_ms, count):
        self.asked.append((len(self.told), user, ts_ms))
        return np.array(self.items[:count], np.int64)


@given(EVENTS.filter(len), st.permutations(range(6)), st.integers(1, 6))
def test_ranks_are_those_of_a_slow_count(events, order, count):
    log = log_of(events)
    for convention in (NEXT, NEW, ANY):
        (found,) = walk(log, [Fixed(order)], (convention,), count=count)
        ranks, rows, shown = [], [], set()
        for row in range(len(log)):
            before = [
                i for u, i in zip(log.user[:row], log.item[:row], strict=True) if u == log.user[row]
            ]
            if not before or (convention is NEW and log.item[row] in before):
                continue
            gone = {NEXT: before[-1:], NEW: before, ANY: []}[convention]
            listed = [item for item in order if item not in gone][:count]
            rows.append(row)
            ranks.append(listed.index(log.item[row]) + 1 if log.item[row] in listed else 0)
            shown.update(listed)
        assert found.asked.tolist() == rows
        assert found.ranks.tolist() == ranks
        assert found.shown == len(shown)
        assert found.catalogue == log.items


@given(EVENTS.filter(len))
def test_nothing_is_known_before_it_is_foretold(events):
    log, rival = log_of(events), Fixed([])
    walk(log, [rival], (ANY,))
    assert len(rival.told) == len(log)
    for told, user, ts_ms in rival.asked:
        assert (user, ts_ms) == (log.user[told], log.ts_ms[told])


def test_a_basket_is_foretold_at_once_and_learned_after():
    baskets = ["1", "1", "2", "3", "2", "3"]
    events = [("a", "p"), ("a", "q"), ("a", "r"), ("b", "p"), ("a", "p"), ("b", "q")]
    log, rival = log_of(events, baskets), Fixed([0, 2, 1])
    assert log.turn.tolist() == [0, 0, 1, 1, 2, 2], "baskets are put together"
    any_item, new = walk(log, [rival], (ANY, NEW))
    assert rival.asked == [(2, 0, 2)]
    assert (any_item.ranks.tolist(), any_item.found.tolist()) == ([1], [1.0])
    assert (new.ranks.tolist(), new.found.tolist()) == ([1], [1.0])


def test_what_is_held_out_is_foretold_and_never_told():
    log = log_of([("a", "p"), ("a", "q"), ("b", "p"), ("b", "q"), ("a", "r")])
    new, rival = of_new_items(log, 1), Fixed([2, 1, 0])
    (found,) = walk(log, [rival], (NEW,), asked=new, learnt=~new)
    assert [item for _, item, _, _ in rival.told] == [0, 1]
    assert found.asked.tolist() == [1, 4]
    assert found.ranks.tolist() == [2, 1]


def test_which_rows_are_asked():
    log = log_of([("a", "p"), ("a", "q"), ("b", "p"), ("b", "q"), ("a", "r")], list("11223"))
    assert from_half(log).tolist() == [False, False, True, True, True]
    assert from_half(log.rows(log.user == 0)).tolist() == [False, False, True]
    assert after_one_event(log).tolist() == [False] * 5
    assert of_new_items(log, 1).tolist() == [True, True, False, False, True]


def test_nobody_asked_is_no_figure():
    (found,) = walk(log_of([("a", "p")]), [Fixed([0])], (ANY,))
    assert np.isnan(found.hit_rate)
    assert np.isnan(found.mrr)
    assert np.isnan(found.recall)
    assert hit_rate(np.array([2, 0])) == 0.5
    assert reciprocal_rank(np.array([2, 0])) == 0.25


@given(EVENTS, st.integers(1, 6))
def test_popularity_counts(events, count):
    popular = Popularity(items=6, half_life_ms=4.0)
    weight = np.zeros(6)
    for row, (_, item) in enumerate(events):
        popular.observe(0, "pqrstu".index(item), row)
        weight["pqrstu".index(item)] += 2.0 ** (row / 4.0)
    expected = [item for item in np.argsort(-weight, kind="stable") if weight[item] > 0][:count]
    assert popular.recommend(0, len(events), count).tolist() == expected


def test_popularity_forgets_without_end():
    popular = Popularity(items=6, half_life_ms=1.0)
    for row in range(60):
        popular.observe(0, row % 6, row * 150)
    assert popular.recommend(0, 9_000, 3).tolist() == [5, 4, 3]


def had(events):
    """Which user had which item, 1.0 or 0.0, [4, 6]."""
    matrix = np.zeros((4, 6))
    for user, item in events:
        matrix["abcd".index(user), "pqrstu".index(item)] = 1.0
    return matrix


def scores_of(fit, matrix):
    from scipy.sparse import csr_array

    weights = fit(csr_array(matrix))
    return np.array([weights.spoken(np.array([item])) for item in range(6)])


@given(EVENTS.filter(len))
def test_weights_are_those_of_dense_formulas(events):
    matrix = had(events)
    together = matrix.T @ matrix
    off = ~np.eye(6, dtype=bool)
    assert scores_of(visited_together, matrix) == pytest.approx(together * off)
    length = np.sqrt(np.maximum(np.diag(together), 1.0))
    assert scores_of(cosine, matrix) == pytest.approx(together / np.outer(length, length) * off)
    inverse = np.linalg.inv(together + 2.0 * np.eye(6))
    expected = -inverse / np.diag(inverse)[None, :] * off
    found = scores_of(lambda known: ease(known, 2.0), matrix)
    kept = np.diag(together) > 0
    assert found[np.ix_(kept, kept)] == pytest.approx(expected[np.ix_(kept, kept)], abs=1e-5)
    assert not found[:, ~kept].any()


def test_weights_are_as_old_as_their_last_fit_and_histories_are_not():
    model = Retrained(users=3, items=4, fit=visited_together, every_ms=10, name="x")
    for ts_ms, user, item in ((1, 0, 0), (2, 0, 1), (11, 1, 0), (12, 1, 2), (12, 1, 3)):
        model.observe(user, item, ts_ms)
    assert model.recommend(1, 19, 4).tolist() == [1]
    assert model.recommend(1, 20, 4).tolist() == [0, 2, 3, 1]


def test_reminders_put_what_was_had_beside_what_is_recommended():
    reminded = Reminders(Fixed([4, 5, 1]))
    for item in (0, 1, 0, 2):
        reminded.observe(7, item, 0)
    # own: 0 with 2, 1 with 2/2; the other's: 4 with 1, 5 with 1/2, 1 with 1/3
    assert reminded.recommend(7, 0, 9).tolist() == [0, 1, 4, 5]
    assert reminded.recommend(8, 0, 2).tolist() == [4, 5]


def test_a_short_list_is_filled():
    filled = Filled(OwnFrequent(), Fixed([3, 2, 1, 0]))
    for item in (1, 2, 1):
        filled.observe(0, item, 0)
    assert filled.recommend(0, 0, 3).tolist() == [1, 2, 3]
    assert filled.recommend(0, 0, 1).tolist() == [1]


def test_reads_events_of_one_kind_with_their_texts(tmp_path):
    rows = (
        "event_id,user_id,session_id,event_type,ts,item_id,category\n"
        "1,u,s1,view,1,i,tea\n2,u,s2,view,2,j,\n3,v,s3,buy,2,j,cup\n4,u,s1,view,3,,\n5,u,s1,view,4,j,pot\n"
    )
    with gzip.open(tmp_path / "x.csv.gz", "wt", encoding="utf-8") as file:
        file.write(rows)
    log = Source("x", "view", baskets=True, texts=("category",)).read(tmp_path)
    assert log.item.tolist() == [0, 1, 1]
    assert log.ts_ms.tolist() == [1, 4, 2]
    assert log.turn.tolist() == [0, 0, 1]
    assert log.of_items("category").tolist() == ["tea", "pot"]
    with pytest.raises(FileNotFoundError, match="no file"):
        Source("y", "view").read(tmp_path)
