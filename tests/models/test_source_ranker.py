"""Sources as River's ranker, held against the engine's own lists on random streams."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import metrics, reco

from events.schema import PRODUCT_VIEW, PURCHASE
from events.texts import Texts
from loadtest.evaluate.recommend.made import batch
from models.item_plan import SOURCES, ItemPlan
from models.recommender import ItemRecommender
from models.source_ranker import SourceRanker
from state.groups import group
from state.table import Table

START_MS = 1_700_000_000_000
ALONE = [name for name in SOURCES if name not in ("segment", "similar")]
KINDS = {"product_view": PRODUCT_VIEW, "purchase": PURCHASE}


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 9), st.sampled_from(sorted(KINDS))),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from(ALONE),
)
@settings(max_examples=60)
def test_it_ranks_as_the_engine_lists(events, source):
    plan = ItemPlan(sources={source: 1.0}, adaptive=False, ranked=False, segment="")
    engine, ranker = ItemRecommender(plan, shares=False), SourceRanker(source, plan=plan)
    table = Table(engine.columns())
    table.grow(5)
    for step, (user, item, kind) in enumerate(events):
        ts_ms = START_MS + 60_000 * step
        one = batch(Texts.of([f"{item}"]), np.array([KINDS[kind]], np.int8), np.array([ts_ms]))
        engine.observe(table, group(np.array([user])), one)
        ranker.learn_one(user, item, True, {"type": kind, "ts": ts_ms, "amount": 1})
    for user in range(5):
        lists = engine.listing.candidates(table, np.array([user]), np.array([ts_ms]), 60)
        items = lists.item[0, : lists.count[0]].astype(np.int64)
        wanted = [int(item) for item in engine.items.ids.texts(items).tolist()]
        assert ranker.rank(user, set(range(10)))[: len(wanted)] == wanted
        scores = [ranker.predict_one(user, item) for item in wanted]
        assert scores == pytest.approx(lists.score[0, : lists.count[0]].tolist())
        assert all(not ranker.predict_one(user, item) for item in set(range(10)) - set(wanted))


def test_it_is_a_ranker_of_river():
    ranker = SourceRanker("covisits", "popular")
    assert isinstance(ranker, reco.base.Ranker)
    again = ranker.clone()
    assert again.sources == ("covisits", "popular")
    ranker.learn_one(1, 2, True)
    assert ranker.predict_one(9, 2) > 0
    assert again.predict_one(9, 2) == 0, "a clone has learned nothing"


def test_it_keeps_what_it_learned_when_it_is_pickled():
    ranker = SourceRanker("popular")
    ranker.learn_one("ann", "cup", True)
    assert pickle.loads(pickle.dumps(ranker)).rank("bob", {"jug", "cup"}) == ["cup", "jug"]


def test_rivers_metrics_take_it():
    ranker, right = SourceRanker("covisits"), metrics.Accuracy()
    for user in range(20):
        for item in ("pan", "lid", "hob"):
            if item == "lid" and user:
                right.update(True, ranker.rank(user, {"pan", "hob", "lid"})[0] == "lid")
            ranker.learn_one(user, item, True)
    assert right.get() == 1.0


def test_asking_changes_nothing():
    ranker = SourceRanker("popular")
    ranker.learn_one("ann", "cup", True)
    for stranger in range(100):
        assert ranker.predict_one(stranger, "cup") > 0
    assert ranker._table.size == 2


def test_what_was_let_be_teaches_nothing():
    ranker = SourceRanker("popular")
    for y in (False, 0, -1.0, float("nan")):
        ranker.learn_one("ann", "cup", y)
    assert ranker.predict_one("bob", "cup") == 0.0


def test_a_new_item_is_found_by_what_is_said_of_it():
    ranker = SourceRanker("similar")
    for item, title in (("m1", "blue mug"), ("m2", "blue mug, large"), ("saw", "steel saw")):
        ranker.describe_one(item, {"title": title, "category": title.split()[1]})
    ranker.learn_one("ann", "m1", True)
    assert ranker.rank("ann", {"saw", "m1", "m2"})[0] == "m2"
    ranker.describe_one("m2", None)
    assert ranker.predict_one("ann", "m2") == 0.0


@pytest.mark.parametrize("sources", [(), ("covisit",), ("segment",)])
def test_a_source_that_there_is_not_is_refused(sources):
    with pytest.raises(ValueError, match=r"sources must be among covisits, .*, but .* came"):
        SourceRanker(*sources)


def test_what_is_no_event_is_refused():
    ranker = SourceRanker("popular")
    with pytest.raises(ValueError, match=r"not an event: .*type"):
        ranker.learn_one("ann", "cup", True, {"type": "viewed"})
    with pytest.raises(ValueError, match=r"not the facts of an item: .*price"):
        ranker.describe_one("cup", {"price": -1})
    assert ranker.predict_one("ann", "cup") == 0.0
