"""VMIS-kNN, compiled, beside the paper's own steps, and its index beside one built anew."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.evaluate.recommend.vmis import VmisKnn
from tests.loadtest.naive_vmis import Naive

USERS, ITEMS = 8, 9
EVENTS = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), min_size=1, max_size=60
)


def told(events, **settings):
    compiled = VmisKnn(USERS, ITEMS, **settings)
    for row, (user, item) in enumerate(events):
        compiled.observe(user, item, ts_ms=row)
    return compiled


def naive(events, learned, user, latest, m, k, own=False):
    """The paper's list for a user when the first events have been learned."""
    sessions, recency = {}, {}
    for row, (of, item) in enumerate(events[:learned]):
        if own or of != user:
            sessions.setdefault(of, []).append(item)
            recency[of] = row
    evolving = [item for of, item in events if of == user][-latest:]
    # Rarity counts the whole index, and so the session itself.
    held = Counter(item for _, item in set(events[:learned]))
    return Naive(sessions, recency, held).votes(evolving, m, k)


@given(EVENTS, st.integers(1, 9), st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_votes_as_the_paper_does(events, latest, m, k, own):
    compiled = told(events, latest=latest, sessions=m, neighbours=k, own=own)
    for user in {of for of, _ in events}:
        expected = naive(events, len(events), user, latest, m, k, own)
        assert compiled.recommend(user, len(events), ITEMS).tolist() == expected
        assert compiled.recommend(user, len(events), 2).tolist() == expected[:2]


@given(EVENTS, st.integers(1, 40))
def test_learns_when_the_time_has_gone_round(events, every):
    compiled = told(events, every_ms=every, sessions=4, neighbours=3, latest=3)
    now = len(events) - 1
    for user in {of for of, _ in events}:
        expected = naive(events, now // every * every, user, 3, 4, 3)
        assert compiled.recommend(user, now, ITEMS).tolist() == expected


def test_grows_as_sessions_come():
    rng = np.random.default_rng(1)
    events = [
        (int(u), int(i)) for u, i in zip(*rng.integers(0, (700, 50), (5_000, 2)).T, strict=True)
    ]
    compiled = VmisKnn(700, 50, latest=4, sessions=100, neighbours=20)
    for row, (user, item) in enumerate(events):
        compiled.observe(user, item, ts_ms=row)
    for user in range(0, 700, 70):
        assert compiled.recommend(user, 5_000, 50).tolist() == naive(
            events, 5_000, user, 4, 100, 20
        )


def test_a_stranger_gets_nothing():
    assert told([(0, 1)]).recommend(user=5, ts_ms=1, count=3).tolist() == []


@pytest.mark.parametrize("latest", [0, 10])
def test_refuses_more_events_than_have_weight(latest):
    with pytest.raises(ValueError, match="latest must be 1 to 9"):
        VmisKnn(2, 2, latest=latest)
