"""Sources of candidates as a ranker with River's API, to be tried and compared one by one.

The steps are those of the engine (``models.recommender``), an event at a time, so what is found out
about a source holds for what it does there.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np
from river import reco

from events.batch import Batch, Read
from events.catalog import read_facts
from events.decode import Decoder
from events.schema import EventRules
from models.item_plan import SOURCES, ItemPlan
from models.recommender import ItemRecommender
from state.groups import group
from state.table import Table
from state.times import SECOND_MS

_APART: Final = tuple(name for name in SOURCES if name != "segment")
"""Users have no labels here, so there is nothing to tell them apart by."""
_TOLD: Final = 60
"""So many items of a source have a rank."""


class SourceRanker(reco.base.Ranker):
    """Ranks items for users by one source of candidates, or by some that are fused.

    Users and items are known by their texts: 7 and ``"7"`` are the same. An item that no source
    names among its first sixty is preferred by 0, as is what the user just had or lately bought.

    Args:
        sources: names out of ``models.item_plan.SOURCES``, but for "segment", which needs labels.
        plan: how items are learned, and the weights where there are several sources; as shipped if
            None. A source whose weight is 0 there weighs 1.
        seed: as River wants it; nothing is drawn here.

    Raises:
        ValueError: a source that there is not.

    Source: scores are fused by reciprocal rank (Cormack, Clarke and Buettcher, SIGIR 2009).

    >>> ranker = SourceRanker("covisits")
    >>> for user in "abc":
    ...     for item in ("pan", "lid", "hob"):
    ...         ranker.learn_one(user, item, True)
    >>> ranker.learn_one("dan", "pan", True)
    >>> ranker.rank("dan", {"hob", "cup", "lid"})
    ['lid', 'hob', 'cup']
    >>> ranker.predict_one("dan", "cup")
    0.0
    """

    def __init__(
        self,
        *sources: str,
        plan: ItemPlan | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        strange = [name for name in sources if name not in _APART]
        if strange or not sources:
            came = ", ".join(map(repr, strange)) or "none"
            raise ValueError(f"sources must be among {', '.join(_APART)}, but {came} came")
        self.sources, self.plan = sources, plan
        given = plan or ItemPlan()
        weights = {name: given.sources.get(name, 0.0) or 1.0 for name in sources}
        self._recommender = ItemRecommender(
            replace(given, sources=weights, adaptive=False, ranked=False, segment=""),
            shares=False,
        )
        self._decode = Decoder(EventRules())
        self._table = Table(self._recommender.columns())
        self._table.grow(1)  # the stranger, of whom nothing is known
        self._rows: dict[str, int] = {}
        self._now_ms, self._count = 0, 0

    def learn_one(
        self, user: Hashable, item: Hashable, y: float, x: Mapping[str, Any] | None = None
    ) -> None:
        """Learn that a user had to do with an item.

        Args:
            user: who.
            item: with what.
            y: nothing is learned unless it is above 0: sources learn what was done, not what was
                let be.
            x: more fields of the event, as in ``docs/events.md``: ``type``, a view if not given,
                ``ts``, a second after the event before if not given, and so on.

        Raises:
            ValueError: it is no event.
        """
        if not y > 0:
            return
        batch = self._event(user, item, x or {})
        self._now_ms = max(self._now_ms, int(batch.ts_ms[0]))
        self._recommender.observe(self._table, group(np.array([self._row(user)])), batch)

    def describe_one(self, item: Hashable, facts: Mapping[str, Any] | None) -> None:
        """Take over what the catalogue says of an item, or None where it is taken out.

        Args:
            item: which.
            facts: as in the topic ``catalog``: ``title``, ``category``, ``tags`` and so on.

        Raises:
            ValueError: they are no facts.
        """
        said = None if facts is None else msgspec.json.encode(facts)
        taken, refused = read_facts([(f"{item}".encode(), said)], EventRules())
        for _, reason in refused:
            raise ValueError(f"not the facts of an item: {reason.path}: {reason.detail}")
        recommender = self._recommender
        recommender.take_facts(taken)
        recommender.steer(self._table, self._now_ms, self._now_ms)
        while recommender.steering.content.compare(1):
            pass

    def predict_one(
        self,
        user: Hashable,
        item: Hashable,
        x: Mapping[str, Any] | None = None,  # noqa: ARG002 River's
    ) -> float:
        """How much an item is preferred: its fused score, 0 if no source names it."""
        return self._preferences(user).get(f"{item}", 0.0)

    def rank(
        self,
        user: Hashable,
        items: Collection[Hashable],
        x: Mapping[str, Any] | None = None,  # noqa: ARG002 River's
    ) -> list[Hashable]:
        """Items by falling preference; equals in the order of their texts."""
        preferences = self._preferences(user)
        return sorted(items, key=lambda item: (-preferences.get(f"{item}", 0.0), f"{item}"))

    # -- inside -----------------------------------------------------------------------------------

    def _row(self, user: Hashable) -> int:
        row = self._rows.setdefault(f"{user}", 1 + len(self._rows))
        self._table.reach(np.array([row]))
        return row

    def _event(self, user: Hashable, item: Hashable, x: Mapping[str, Any]) -> Batch:
        """One event as the log would give it."""
        self._count += 1
        said = {"type": "product_view", "ts": self._now_ms + SECOND_MS, **x}
        said |= {"user_id": f"{user}", "item_id": f"{item}", "event_id": f"{self._count}"}
        place = np.zeros(1, dtype=np.int64)
        read = Read("", [msgspec.json.encode(said)], place - 1, place.astype(np.int32), place, [])
        batch, letters = self._decode(read)
        for letter in letters:
            raise ValueError(f"not an event: {letter.reason}: {letter.detail}")
        return batch

    def _preferences(self, user: Hashable) -> dict[str, float]:
        """The score of every item that a source names."""
        rows, now_ms = np.array([self._rows.get(f"{user}", 0)]), np.array([self._now_ms])
        found = self._recommender.listing.candidates(self._table, rows, now_ms, _TOLD)
        items, scores = found.item[0, : found.count[0]], found.score[0, : found.count[0]]
        names = map(str, self._recommender.items.ids.texts(items.astype(np.int64)).tolist())
        return dict(zip(names, scores.tolist(), strict=True))
