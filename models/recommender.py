"""The recommender in the flow: remember, learn, list; see ``state.recommending.Recommender``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.catalog import Facts
from events.schema import IMPRESSION
from events.texts import Texts
from models.following import Following
from models.gathering import Gatherer
from models.interactions import Interactions
from models.item_plan import ItemPlan
from models.item_records import load_items, pack_items
from models.items import ItemTable
from models.last_items import LastItems
from models.listing import Listing
from models.ranker import Ranker
from models.relisting import Relisting
from models.seeking import Seeking
from models.steering import Steering
from models.turns import Turns
from models.weights_by_history import WeightsByHistory
from state.groups import Groups
from state.labels import Labels
from state.recommending import Lists, Served
from state.table import Column, Table
from state.times import NEVER_MS

I64 = NDArray[np.int64]

_LISTED: Final = "list.at"
_COMPARED_AT_ONCE: Final = 10
"""Items that are held against others in one go: a few milliseconds."""
_UNSENT_MOST: Final = 1_000_000
"""Interactions that may wait for an exchange; a store that is away must not fill the memory."""


class ItemRecommender:
    """Items and lists of one lane.

    Args:
        plan: how items are learned and lists made.
        keeps: whether this lane is the one that stores the items.
        shares: whether there are other lanes, or later ones, to exchange interactions with.

    Attributes:
        items: what is known of items.
        last: what users had to do with last.
        listing: what makes their lists.
        steering: what catalogue and rules make of items.
        ranker: what reorders lists; None where nothing does.
    """

    def __init__(self, plan: ItemPlan, *, keeps: bool = True, shares: bool = True) -> None:
        self.plan = plan
        self.keeps, self.exchange_ms = keeps, plan.exchange_ms if shares else 0
        sends = bool(self.exchange_ms)
        self.items = items = ItemTable(plan)
        self.last = last = LastItems(plan, items)
        self.gatherer = Gatherer(plan, items)
        self.steering = Steering(items, plan.rules)
        self.ranker = Ranker(plan.rank_least) if plan.ranked else None
        self._seeking = (
            Seeking(plan, items, self.gatherer, last, sends=sends) if plan.adaptive else None
        )
        self.listing = Listing(
            plan, items, last, self.gatherer, self.steering, self.ranker, self._seeking
        )
        self._following = (
            Following(plan, items, self.listing, self.ranker, sends=sends) if self.ranker else None
        )
        self._matters = plan.weight_of > 0.0
        self._noted = self._matters.copy()
        self._noted[IMPRESSION] = True
        self._unsent: list[Interactions] = []
        self._unsent_count = 0
        self._relisting = Relisting(plan.length, _LISTED, "recent.at")
        self._turns = Turns(plan.lists_per_s, self._relisting)
        self.dropped = 0

    @property
    def weights(self) -> WeightsByHistory | None:
        """What was learned of the worth of sources; None where those of the settings hold."""
        return None if self._seeking is None else self._seeking.weights

    # -- in the lane ------------------------------------------------------------------------------

    def columns(self) -> list[Column]:
        """What users had to do with last, and when their list was made."""
        listed = Column(_LISTED, "i8", NEVER_MS)
        return [*self.last.columns(), listed, *self._relisting.columns()]

    def tell_apart(self, labels: Labels) -> None:
        """Users may be told apart by their labels from now on."""
        self.last.tell_apart(labels)

    def observe(self, table: Table, groups: Groups, batch: Batch) -> None:
        """Take in a batch: what its users touched, and what that teaches about items."""
        kinds = batch.type[groups.index]
        noted = self._noted[kinds] & batch.item.present[groups.index]
        if not noted.any():
            return
        events = groups.where(noted)
        if self._following is not None:
            self._following.follow(table, events, batch)
        if self._seeking is not None:
            self._seeking.seek(table, events, batch)
        some = self.last.interactions(table, events, batch)
        self._learn(some)
        if self.exchange_ms:
            self._unsent.append(some)
            self._unsent_count += len(some)
            while self._unsent_count > _UNSENT_MOST:
                self.dropped += len(self._unsent[0])
                self._unsent_count -= len(self._unsent.pop(0))
        rows = events.where(self._matters[kinds[noted]]).rows
        table[_LISTED][rows] = NEVER_MS
        self._turns.want(rows)

    def forget(self, rows: I64) -> None:
        """These users leave: what was shown to them is nobody's."""
        if self._following is not None:
            self._following.forget(rows)

    def waiting(self) -> int:
        """How many users wait for a new list, some perhaps counted twice."""
        return len(self._turns)

    def due(self, wall_ms: int | None) -> I64:
        """The users whose turn it is: all, or as many as the budget allows."""
        return self._turns.take(wall_ms)

    def make(self, table: Table, ids: Texts, now_ms: I64, rows: I64, served: Served) -> Lists:
        """New lists for those of some users who ever had to do with an item."""
        last_ms = self.last.recent.at_ms(table, rows)[:, 0]
        known = np.flatnonzero(last_ms > NEVER_MS)
        rows, ids, now_ms, served = rows[known], ids.take(known), now_ms[known], served.take(known)
        if not len(rows):
            return Lists.none()
        table[_LISTED][rows] = np.maximum(now_ms, last_ms[known])
        found = self.listing.candidates(table, rows, now_ms, served=served)
        hashes = np.where(found.item >= 0, self.items.table["hash"][found.item], 0)
        self._relisting.note_lists(table, rows, hashes)
        return Lists(rows, self.listing.documents(found, ids, now_ms, served))

    def restored(self, table: Table) -> None:
        """Note whose lists are older than what they did."""
        newest = table["recent.at"][: table.size, 0]
        self._turns.restored(np.flatnonzero(newest > table[_LISTED][: table.size]))

    def quality(self) -> dict[str, dict[str, float | None]]:
        """How ranking does, how many items there are, and what waits."""
        found: dict[str, dict[str, float | None]] = {
            "items": {
                "items": float(len(self.items)),
                "learned": float(self.items.learned),
                "lists_waiting": float(self.waiting()),
                "interactions_dropped": float(self.dropped),
            }
        }
        if self.ranker is not None and self._following is not None:
            found["ranking"] = {**self.ranker.quality(), "parked": float(self._following.parked)}
        if self.weights is not None:
            found |= self.weights.quality()
        return found

    # -- items ------------------------------------------------------------------------------------

    def outgoing(self) -> bytes:
        """What own users did since this was last asked."""
        seeking, following = self._seeking, self._following
        if not (self._unsent or (following and following.waits()) or (seeking and seeking.waits())):
            return b""
        parts, self._unsent, self._unsent_count = self._unsent, [], 0
        told = Interactions.joined(parts).pack() if parts else b""
        shown = following.outgoing() if following else []
        return msgspec.msgpack.encode((told, shown, seeking.outgoing() if seeking else []))

    def take(self, block: bytes, *, own: bool = False) -> None:
        """Learn what a lane told.

        What own users did is known already. Ranking and the weights of sources learn everything
        here, the same in every lane because all read in one order.
        """
        told, shown, *more = msgspec.msgpack.decode(block)
        if told and not own:
            self._learn(Interactions.unpack(told))
        if self._following is not None:
            self._following.take(shown)
        if self._seeking is not None and more:  # former versions told nothing of this
            self._seeking.take(more[0])

    def beside(self) -> bytes:
        """What is stored beside the items: the ranking, and what sources are worth."""
        ranking = None if self.ranker is None else self.ranker.to_state()
        weights = None if self.weights is None else self.weights.to_state()
        return msgspec.msgpack.encode((ranking, weights, self.items.segments))

    def begin_saving(self, *, everything: bool = False) -> None:
        """All items that have changed up to now are to be saved, or all there are."""
        if everything:
            self.items.table["changed"][: len(self.items)] = True
        self.items.begin_saving()

    def some_unsaved(self, most: int) -> tuple[list[bytes], list[bytes]]:
        """Fields and values of some of them."""
        return pack_items(self.items, self.items.some_unsaved(most))

    def forgotten(self, again: Sequence[bytes] = ()) -> list[bytes]:
        """Ids of items that were forgotten since this was last asked and have not come back."""
        gone, self.items.forgotten = list({*again, *self.items.forgotten}), []
        unknown = self.items.ids.find(Texts.of_bytes(gone)) < 0
        return [field for field, is_gone in zip(gone, unknown.tolist(), strict=True) if is_gone]

    def load_items(
        self, fields: Sequence[bytes], values: Sequence[bytes], beside: bytes = b""
    ) -> None:
        """Take over stored items, and what is stored beside them, in place of what is known.

        What the catalogue says stays.
        """
        facts = self.steering.catalog.held()
        held = msgspec.msgpack.decode(beside) if beside else None
        parts = held if isinstance(held, list) else [held]  # the first versions: the ranking alone
        ranking, weights, segments = (*parts, None, None)[:3]
        self.items.reset()
        if fields:
            load_items(self.items, fields, values, segments or ())
        self.steering.again(facts)
        if self.ranker is not None and ranking is not None:
            self.ranker.restore(ranking)
        if self.weights is not None and weights is not None:
            self.weights.restore(weights)

    # -- catalogue and rules ----------------------------------------------------------------------

    def take_facts(self, facts: Facts) -> None:
        """Take over what the catalogue says of items."""
        self.steering.take_facts(facts)

    def take_rules(self, raw: bytes | None) -> None:
        """Take over the stored rules."""
        self.steering.take_rules(raw)

    def think(self) -> None:
        """Go on with what takes long, a little at a time: which items are described alike."""
        self.steering.content.compare(_COMPARED_AT_ONCE)

    def steer(self, table: Table, now_ms: int, rules_ms: int) -> None:
        """Bring items up to date with catalogue and rules; note whose lists that makes stale."""
        turn = self.steering.look(rules_ms)
        if turn is None or now_ms == NEVER_MS:
            return
        since_ms = now_ms - self.plan.validity_ms
        if turn.rules:
            self._relisting.want_all(table, since_ms)
        else:
            self._relisting.want_without(table, turn.blocked, since_ms)

    # -- inside -----------------------------------------------------------------------------------

    def _learn(self, some: Interactions) -> None:
        self.items.learn(some)
        if not (self.keeps and self.exchange_ms):
            self.items.forgotten.clear()  # nobody will ask
