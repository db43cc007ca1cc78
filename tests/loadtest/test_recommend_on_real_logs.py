"""The rivals on the clicks of a real shop: as good as others have found them."""

from collections import Counter

import numpy as np
import pytest

from loadtest.evaluate.logs import DATA
from loadtest.evaluate.recommend import contests
from loadtest.evaluate.recommend.logs import SERENADE
from loadtest.evaluate.recommend.vmis import VmisKnn
from tests.loadtest.naive_vmis import vmis

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real logs in {DATA}"),
]


def test_the_published_evaluation_comes_out_again():
    (found,) = contests.published()
    assert len(found.ranks) == contests.PUBLISHED["lists"]
    assert found.hit_rate == pytest.approx(contests.PUBLISHED["hit_rate"], abs=0.0011)
    assert found.mrr == pytest.approx(contests.PUBLISHED["mrr"], abs=0.003), "but for equals"


def test_repeats_in_sessions_are_as_many_as_is_known():
    log = SERENADE.read()
    pairs = np.stack([log.user, log.item])
    different = len(np.unique(pairs, axis=1)[0])
    clicks = len(log) - log.users
    assert (len(log) - different) / clicks == pytest.approx(0.368, abs=0.0005)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_next_clicks():
    found = {(each.rival, each.convention): each for each in contests.next_clicks()}
    daily = found["VMIS-kNN, daily", "all next clicks"]
    assert len(daily.ranks) == 46_075
    assert daily.hit_rate == pytest.approx(0.5406, abs=0.002)
    online = found["VMIS-kNN, online", "new to the user"]
    assert len(online.ranks) == 29_193
    assert online.hit_rate == pytest.approx(0.4670, abs=0.002)
    assert online.hit_rate > found["VMIS-kNN, daily", "new to the user"].hit_rate


def test_votes_on_real_sessions_as_the_paper_does():
    log = SERENADE.read()
    log = log.rows(log.texts["split"] == "train").rows(np.arange(20_000))
    compiled = VmisKnn(log.users, log.items, latest=2, sessions=500, neighbours=50)
    sessions, recency = {}, {}
    for row, (user, item) in enumerate(zip(log.user.tolist(), log.item.tolist(), strict=True)):
        compiled.observe(user, item, row)
        sessions.setdefault(user, []).append(item)
        recency[user] = row
    held = Counter(item for items in sessions.values() for item in set(items))
    for user in list(sessions)[:: len(sessions) // 40]:
        others = {each: items for each, items in sessions.items() if each != user}
        counts = held.total(), held
        expected = vmis(sessions[user][-2:], others, recency, 500, 50, counts)
        assert compiled.recommend(user, 0, 20).tolist() == expected[:20]
