"""The rivals on the clicks of a real shop: as good as others have found them."""

import numpy as np
import pytest

from loadtest.evaluate.logs import DATA
from loadtest.evaluate.recommend import contests
from loadtest.evaluate.recommend.logs import SERENADE

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
