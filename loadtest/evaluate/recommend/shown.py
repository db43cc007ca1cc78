"""What ranking by impressions is worth, in a made-up shop where the truth is known.

Every item has an appeal that nobody sees, which says how often it is clicked when it is looked at;
places further down are looked at less. Two shops with the same customers, items and chances differ
in one thing: whether lists are ranked by what was taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dataflows import plans
from dataflows.settings import load
from events.schema import CLICK, IMPRESSION, PRODUCT_VIEW
from events.texts import Texts
from loadtest.evaluate.recommend.made import batch
from state.groups import group
from state.table import Table

_USERS: Final = 2_000
_ITEMS: Final = 500
_TASTES: Final = 10
_STEP_MS: Final = 60_000
_VISITORS: Final = 100
_SHOWN: Final = 10
_START_MS: Final = 1_700_000_000_000


@dataclass(slots=True, frozen=True)
class Period:
    """Some steps of one shop.

    Attributes:
        clicks: share of what was shown that was clicked.
        auc, fused_auc: how well the latest impressions were ranked, by the model and by the fused
            score; None where there is no model or nothing to say.
    """

    clicks: float
    auc: float | None
    fused_auc: float | None


def periods(*, ranked: bool, seed: int = 3, steps: int = 400, of: int = 50) -> list[Period]:
    """Run a shop."""
    rng = np.random.default_rng(seed)
    settings = load(env={}, sets=[f"recommend.ranked={str(ranked).lower()}"])
    lane = plans.recommender(settings, keeps=True, shares=False)
    assert lane is not None
    table = Table(lane.columns())
    table.grow(_USERS)
    ids = Texts.of([f"item-{item}" for item in range(_ITEMS)])
    number = {h: item for item, h in enumerate(ids.hashes().tolist())}
    appeal = rng.normal(0.0, 1.2, _ITEMS)
    looked_at = 1.0 / np.arange(1, _SHOWN + 1) ** 0.7
    out, now_ms, shown, clicked = [], _START_MS, 0, 0
    for step in range(1, steps + 1):
        now_ms += _STEP_MS
        users = rng.choice(_USERS, _VISITORS, replace=False)
        viewed = users % _TASTES * (_ITEMS // _TASTES) + rng.integers(0, _ITEMS // _TASTES, 100)
        kinds = np.full(_VISITORS, PRODUCT_VIEW, dtype=np.int8)
        times = np.full(_VISITORS, now_ms)
        lane.observe(table, group(users), batch(ids.take(viewed), kinds, times))
        lists = lane.listing.candidates(table, users, times, _SHOWN)
        of_user, place = np.nonzero(np.arange(_SHOWN) < lists.count[:, None])
        hashes = lane.items.table["hash"][lists.item[of_user, place]]
        items = np.array([number[h] for h in hashes.tolist()])
        chance = looked_at[place] / (1.0 + np.exp(2.5 - appeal[items]))
        takes = rng.random(len(items)) < chance
        who = np.concatenate([users[of_user], users[of_user][takes]])
        what = np.concatenate([items, items[takes]])
        kinds = np.repeat([IMPRESSION, CLICK], [len(items), takes.sum()]).astype(np.int8)
        value = np.concatenate([looked_at[place], np.full(takes.sum(), np.nan)])
        times = now_ms + 1_000 + np.arange(len(who))
        lane.observe(table, group(who), batch(ids.take(what), kinds, times, value))
        shown, clicked = shown + len(items), clicked + int(takes.sum())
        if step % of == 0:
            quality = {} if lane.ranker is None else lane.ranker.quality()
            rate = clicked / max(shown, 1)
            out.append(Period(rate, quality.get("auc"), quality.get("auc_fused")))
            shown = clicked = 0
    return out
