"""The contests: which log, who is asked what, and beside whom. Settings of rivals stand here.

They were chosen on the second quarter of each log, after the first had been learned; what is
reported is the second half (``docs/recommendations.md``).

Every contest takes makers of further recommenders, which are asked first; a maker is given the log,
for its number of users and items and the texts of its items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import numpy as np

from loadtest.evaluate.logs import DAY_MS
from loadtest.evaluate.recommend.batch import Fit, Retrained, cosine, ease, visited_together
from loadtest.evaluate.recommend.engines import afterglow, as_shipped, in_lanes
from loadtest.evaluate.recommend.joined import Filled, Reminders
from loadtest.evaluate.recommend.logs import (
    BASKETS,
    MOVIES,
    SERENADE,
    Bools,
    Interactions,
    Source,
)
from loadtest.evaluate.recommend.measures import Lists
from loadtest.evaluate.recommend.personal import OwnFrequent
from loadtest.evaluate.recommend.popularity import Popularity
from loadtest.evaluate.recommend.protocol import NextItem
from loadtest.evaluate.recommend.vmis import VmisKnn
from loadtest.evaluate.recommend.walk import (
    ANY,
    NEW,
    NEXT,
    Convention,
    after_one_event,
    from_half,
    of_new_items,
    walk,
)

Make = Callable[[Interactions], NextItem]

ENGINE: Final[Sequence[Make]] = (afterglow,)
"""This engine's own recommenders."""

NEVER_MS: Final = 2**62
HALF_LIFE_MS: Final = {
    SERENADE.name: DAY_MS // 4,
    MOVIES.name: 3 * DAY_MS,
    BASKETS.name: 30 * DAY_MS,
}
"""Of popularity, by log."""

PUBLISHED: Final = {"hit_rate": 0.6402, "mrr": 0.3277, "lists": 931}
"""What VMIS-kNN's own evaluator found on ``serenade_bol``."""


def next_clicks(makers: Sequence[Make] = ()) -> list[Lists]:
    """``serenade_bol``: all next clicks, and those on items new to the session."""
    log = SERENADE.read()
    sizes = log.users, log.items
    daily = partial(VmisKnn, *sizes, every_ms=DAY_MS, name="VMIS-kNN, daily")
    online = partial(VmisKnn, *sizes, name="VMIS-kNN, online")
    rivals: list[NextItem] = [
        popularity(log),
        Popularity(log.items, DAY_MS, "popularity, half-life of a day"),
        daily(),
        Reminders(daily()),
        online(),
        online(own=True, name="VMIS-kNN, online, itself a neighbour"),
        Reminders(online()),
    ]
    return walk(log, [*_made(makers, log), *rivals], (NEXT, NEW), from_half(log))


def published(makers: Sequence[Make] = ()) -> list[Lists]:
    """``serenade_bol`` as its publishers measure: learn ``train``, then foretell ``test``.

    With the settings of their example, and like them without the longest of the sessions: those
    with more different items than 99.5 % have. Others than VMIS-kNN also learn each click of
    ``test`` after its list.
    """
    log = SERENADE.read()
    split = log.texts["split"]
    vmis = VmisKnn(
        log.users, log.items, 2, 500, 50, every_ms=NEVER_MS, name="VMIS-kNN, as published"
    )
    rivals: list[NextItem] = [*_made(makers, log), vmis]
    train = log.rows(split == "train")
    _teach(rivals, train.rows(~_longest(train, 0.995)[train.user]))
    vmis.train()
    return walk(log.rows(split == "test"), rivals, (NEXT,))


def films(makers: Sequence[Make] = ()) -> list[Lists]:
    """``movietweetings_100k``: the film that a user rates next."""
    log = MOVIES.read()
    rivals: list[NextItem] = [popularity(log), *batch(log, DAY_MS, 7 * DAY_MS)]
    return walk(log, [*_made(makers, log), *rivals], (NEW,), from_half(log))


def baskets(makers: Sequence[Make] = ()) -> list[Lists]:
    """``complete_journey_sample``: what is in a household's next basket, and what of it is new."""
    log = BASKETS.read()
    own = Filled(OwnFrequent(), popularity(log))
    rivals: list[NextItem] = [popularity(log), own, *batch(log, 7 * DAY_MS, 28 * DAY_MS)]
    return walk(log, [*_made(makers, log), *rivals], (ANY, NEW), from_half(log))


def cold_items(source: Source, makers: Sequence[Make] = (), held_out: bool = True) -> list[Lists]:
    """Items at their first ten events, beside popularity.

    Args:
        source: the log.
        makers: who else is asked.
        held_out: whether these events are never learned. If they are, popularity may know an item
            by the time of its second.
    """
    log = source.read()
    new = of_new_items(log)
    learnt = ~new if held_out else None
    rivals = [*_made(makers, log), popularity(log)]
    return walk(log, rivals, (NEW,), new & from_half(log), learnt)


def cold_users(source: Source, convention: Convention, makers: Sequence[Make] = ()) -> list[Lists]:
    """Users of whom one event is known, beside popularity."""
    log = source.read()
    asked = after_one_event(log) & from_half(log)
    return walk(log, [*_made(makers, log), popularity(log)], (convention,), asked)


def contests(makers: Sequence[Make] = ()) -> Iterable[tuple[str, Callable[[], list[Lists]]]]:
    """Every table, by title."""
    yield f"{SERENADE.name}: the next click", partial(next_clicks, makers)
    yield f"{SERENADE.name}: as published", partial(published, makers)
    both: Sequence[Make] = (*makers, as_shipped) if makers else ()
    yield f"{MOVIES.name}: the next film", partial(films, both)
    yield f"{BASKETS.name}: the next basket", partial(baskets, both)
    for source in (MOVIES, BASKETS):
        for held_out in (True, False):
            how = "never learned" if held_out else "learned as they come"
            title = f"{source.name}: the first ten events of items, {how}"
            yield title, partial(cold_items, source, makers, held_out)
    for source, convention in ((SERENADE, NEXT), (MOVIES, NEW), (BASKETS, ANY)):
        title = f"{source.name}: users of whom one event is known"
        yield title, partial(cold_users, source, convention, makers if source is SERENADE else both)


def popularity(log: Interactions) -> Popularity:
    """Decayed popularity with the half-life that is best for a log."""
    return Popularity(log.items, HALF_LIFE_MS[log.name])


def batch(log: Interactions, every_ms: int, ease_every_ms: int) -> list[NextItem]:
    """Item-to-item models, filled up with popularity where a history says too little."""
    fits: list[tuple[str, Fit, int]] = [
        ("item cosine", cosine, every_ms),
        ("co-visitation", visited_together, every_ms),
        ("EASE", partial(ease, penalty=300.0), ease_every_ms),
    ]
    return [
        Filled(
            Retrained(log.users, log.items, fit, every, f"{name}, {_days(every)}"), popularity(log)
        )
        for name, fit, every in fits
    ]


def _days(every_ms: int) -> str:
    days = every_ms // DAY_MS
    return "daily" if days == 1 else f"every {days} days"


def shared() -> list[Lists]:
    """``serenade_bol`` by lanes that exchange what they saw."""
    log = SERENADE.read()
    return walk(log, in_lanes(log), (NEXT, NEW), from_half(log))


def _made(makers: Sequence[Make], log: Interactions) -> list[NextItem]:
    return [make(log) for make in makers]


def _teach(rivals: Sequence[NextItem], log: Interactions) -> None:
    columns = log.user.tolist(), log.item.tolist(), log.ts_ms.tolist(), log.weight.tolist()
    for event in zip(*columns, strict=True):
        for rival in rivals:
            rival.observe(*event)


def _longest(log: Interactions, share: float) -> Bools:
    """Users with more different items than that share of users has, bool[users]."""
    pairs = np.unique(np.stack([log.user, log.item]), axis=1)
    different = np.bincount(pairs[0], minlength=log.users)
    most = round(float(np.quantile(different[different > 0], share)))
    longest: Bools = different > most
    return longest
