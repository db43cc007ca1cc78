"""The engine's settings for each of the logs, as a shop of that kind would choose them.

They were chosen before anything of these logs' second halves was looked at, but for those of
``serenade_bol``, which are the shipped ones.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from dataflows.settings import load
from events.schema import PRODUCT_VIEW, PURCHASE, TYPES
from loadtest.evaluate.recommend.engine import Afterglow
from loadtest.evaluate.recommend.logs import BASKETS, MOVIES, SERENADE, Interactions

_KIND: Final = {
    SERENADE.name: PRODUCT_VIEW,
    MOVIES.name: TYPES.index("rating"),
    BASKETS.name: PURCHASE,
}
_SETS: Final = {
    SERENADE.name: (),
    # nobody watches a film again at once; what runs now is what is watched
    MOVIES.name: (
        "recommend.gap=30d",
        "recommend.half_life=3d",
        "recommend.sources.reminders=0",
        "recommend.sources.popular=2",
    ),
    # what was bought is bought again
    BASKETS.name: (
        "recommend.not_again=1s",
        "recommend.half_life=30d",
        "recommend.recent=32",
        "recommend.sources.popular=1",
    ),
}


def afterglow(
    log: Interactions,
    sets: tuple[str, ...] = (),
    lanes: int = 1,
    name: str = "Afterglow",
    chosen: bool = True,
) -> Afterglow:
    """The engine for a log.

    Args:
        log: what it will be asked about.
        sets: settings that differ from those chosen for the log.
        lanes: how many share the users; they exchange once a minute of event time.
        name: in tables.
        chosen: whether settings were chosen for the log; or else the shipped ones hold.
    """
    settings = load(env={}, sets=[*(_SETS[log.name] if chosen else ()), *sets])
    categories = None
    if "category" in log.texts:
        categories = [text or None for text in log.of_items("category").tolist()]
    ids = [f"item-{item}" for item in range(log.items)]
    kind = _KIND[log.name]
    return Afterglow(name, settings, log.users, ids, lanes, kind=kind, categories=categories)


without_reminders = partial(
    afterglow, sets=("recommend.sources.reminders=0",), name="Afterglow, no reminders"
)


as_shipped = partial(afterglow, name="Afterglow, shipped settings", chosen=False)


def in_lanes(log: Interactions) -> list[Afterglow]:
    """One, two, four and sixteen lanes."""
    return [
        afterglow(log, lanes=n, name=f"{n} lanes" if n > 1 else "1 lane") for n in (1, 2, 4, 16)
    ]
