"""The recommender in the flow: remember, learn, list; see ``state.recommending.Recommender``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.catalog import Facts
from events.schema import ADD_TO_CART, CLICK, IMPRESSION, PURCHASE, RATING, TYPES
from events.texts import Texts
from models.arranging import SAID, arranged
from models.candidates import Candidates
from models.esteem import rating_of, stay_of
from models.gathering import Gatherer
from models.impressions import Impressions, Shown
from models.interactions import Interactions, seen_of
from models.item_plan import COSINE, POPULAR, SESSIONS, SOURCES, ItemPlan
from models.item_records import load_items, pack_items
from models.items import ItemTable
from models.pace import Pace
from models.ranker import INPUTS, Ranker, inputs
from models.relisting import Relisting
from models.running_sessions import Running, RunningSessions
from models.seeking import Seeking
from models.steering import Steering
from models.turns import Turns
from models.weights_by_history import WeightsByHistory
from state.candidates import candidates_form
from state.groups import Groups
from state.labels import Labels
from state.recent import RecentItems
from state.recommending import Lists, Served
from state.table import Column, Table
from state.times import NEVER_MS

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_LISTED: Final = "list.at"
_LOOKED_THROUGH: Final = 60
"""Candidates among which an item that was shown is sought."""
_WIDER: Final = 5
"""So many times the length of a list is gathered where some of it may be left out."""
_OVERRIDDEN: Final = "sources."
"""Begins the paths of settings that an arm may change."""
_COMPARED_AT_ONCE: Final = 10
"""Items that are held against others in one go: a few milliseconds."""
_SHOWN_PER_S, _SHOWN_MOST = 50, 2_000
"""Impressions that ranking learns from in a second of event time, and that may be saved up."""
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
        steering: what catalogue and rules make of them.
    """

    def __init__(self, plan: ItemPlan, *, keeps: bool = True, shares: bool = True) -> None:
        self.plan = plan
        self.keeps, self.exchange_ms = keeps, plan.exchange_ms if shares else 0
        self.items = ItemTable(plan)
        self.gatherer = Gatherer(plan, self.items)
        self.recent = RecentItems("recent", plan.recent)
        self.bought = RecentItems("bought", plan.bought)
        self._sessions = RunningSessions(plan.gap_ms) if plan.is_on(SESSIONS) else None
        self._matters = plan.weight_of > 0.0
        self._noted = self._matters.copy()
        self._noted[IMPRESSION] = True
        self._takes = np.zeros(len(TYPES), dtype=np.bool_)
        self._takes[[CLICK, ADD_TO_CART, PURCHASE]] = True
        self._labels: Labels | None = None
        self._asks_had = plan.is_on(COSINE)
        self._unsent: list[Interactions] = []
        self._unsent_count = 0
        self.ranker = Ranker(plan.rank_least) if plan.ranked else None
        self._impressions = Impressions(len(INPUTS), plan.click_ms)
        self._taken: list[Shown] = []
        self._pace = Pace(_SHOWN_PER_S, _SHOWN_MOST)
        self._seeking: Seeking | None = None
        if plan.adaptive:
            had = self.recent, self.bought, self._running, self._segments
            sends = bool(self.exchange_ms)
            self._seeking = Seeking(plan, self.items, self.gatherer, *had, sends=sends)
        self._form = candidates_form()
        self._sources = Texts.of(SAID)
        self.steering = Steering(self.items, plan.rules)
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
        own = [*self.recent.columns(), *self.bought.columns()]
        running = self._sessions.columns() if self._sessions else []
        return [*own, Column(_LISTED, "i8", NEVER_MS), *self._relisting.columns(), *running]

    def tell_apart(self, labels: Labels) -> None:
        """Users may be told apart by their labels from now on."""
        self._labels = labels

    def observe(self, table: Table, groups: Groups, batch: Batch) -> None:
        """Take in a batch: what its users touched, and what that teaches about items."""
        kinds = batch.type[groups.index]
        noted = self._noted[kinds] & batch.item.present[groups.index]
        if not noted.any():
            return
        events = groups.where(noted)
        if self.ranker is not None:
            self._follow(table, events, batch)
        if self._seeking is not None:
            self._seeking.seek(table, events, batch)
        some = self._interactions(table, events, batch)
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
        self._impressions.forget(rows)

    def waiting(self) -> int:
        """How many users wait for a new list, some perhaps counted twice."""
        return len(self._turns)

    def due(self, wall_ms: int | None) -> I64:
        """The users whose turn it is: all, or as many as the budget allows."""
        return self._turns.take(wall_ms)

    def make(self, table: Table, ids: Texts, now_ms: I64, rows: I64, served: Served) -> Lists:
        """New lists for those of some users who ever had to do with an item."""
        known = np.flatnonzero(self.recent.at_ms(table, rows)[:, 0] > NEVER_MS)
        rows, ids, now_ms, served = rows[known], ids.take(known), now_ms[known], served.take(known)
        if not len(rows):
            return Lists.none()
        table[_LISTED][rows] = np.maximum(now_ms, self.recent.at_ms(table, rows)[:, 0])
        found = self.candidates(table, rows, now_ms, weights=self._weights(table, rows, served))
        hashes = np.where(found.item >= 0, self.items.table["hash"][found.item], 0)
        self._relisting.note_lists(table, rows, hashes)
        return Lists(rows, self.documents(found, ids, now_ms, served))

    def candidates(
        self,
        table: Table,
        rows: I64,
        now_ms: I64,
        length: int | None = None,
        weights: F64 | None = None,
    ) -> Candidates:
        """The candidates of some users.

        Args:
            table: the users.
            rows: which, int64[n].
            now_ms: at a time of each, int64[n].
            length: of a list; the plan's if None.
            weights: of the sources for each user, float64[n, sources]; those in force if None.
        """
        if weights is None:
            weights = self._source_weights(table, rows)
        recent = self.items.find(self.recent.items(table, rows))
        bought = self.items.find(self.bought.items(table, rows))
        old = self.bought.at_ms(table, rows) < now_ms[:, None] - self.plan.bought_ms
        bought = np.where(old, -1, bought)
        segment, running = self._segments(rows), self._running(table, rows)
        pins, cap, length = self.steering.pins, self.plan.per_category, length or self.plan.length
        plainly = not cap and not len(pins.items)
        wide = length if plainly else _WIDER * length
        among = max(2 * length, wide)
        found = self._ranked(recent, bought, now_ms, wide, among, weights, segment, running)
        if plainly:
            return found
        return arranged(found, self.items, recent, bought, pins, length, cap)

    def documents(
        self, lists: Candidates, ids: Texts, now_ms: I64, served: Served | None = None
    ) -> Texts:
        """Lists of users, whose ids are given, as documents."""
        served = served or Served.plainly(len(ids))
        bounds = np.concatenate([[0], np.cumsum(lists.count)])
        held = np.arange(lists.item.shape[1]) < lists.count[:, None]
        columns = {
            "as_of": now_ms,
            "valid_to": now_ms + self.plan.validity_ms,
            "model": np.full(len(now_ms), self.items.learned),
            "items.score": lists.score[held],
        }
        texts = {
            "user_id": ids,
            "experiment.name": served.names,
            "experiment.arm": served.arms,
            "items.item_id": self.items.ids.texts(lists.item[held]),
            "items.source": self._sources.take(lists.source[held].astype(np.int64)),
            "items.because": self.items.ids.texts(lists.because[held]),
        }
        arms = np.searchsorted(served.place, np.arange(len(ids) + 1)).astype(np.int64)
        return self._form.fill(columns, texts, {"items": bounds, "experiment": arms})

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
        if self.ranker is not None:
            found["ranking"] = {**self.ranker.quality(), "parked": float(len(self._impressions))}
        if self.weights is not None:
            found |= self.weights.quality()
        return found

    # -- items ------------------------------------------------------------------------------------

    def outgoing(self) -> bytes:
        """What own users did since this was last asked."""
        seeking = self._seeking
        if not self._unsent and not self._taken and not (seeking and seeking.waits()):
            return b""
        parts, self._unsent, self._unsent_count = self._unsent, [], 0
        examples, self._taken = self._taken, []
        told = Interactions.joined(parts).pack() if parts else b""
        packed = [some.pack() for some in examples], seeking.outgoing() if seeking else []
        return msgspec.msgpack.encode((told, *packed))

    def take(self, block: bytes, *, own: bool = False) -> None:
        """Learn what a lane told.

        What own users did is known already. Ranking and the weights of sources learn everything
        here, the same in every lane because all read in one order.
        """
        told, examples, *more = msgspec.msgpack.decode(block)
        if told and not own:
            self._learn(Interactions.unpack(told))
        if self.ranker is not None:
            for some in examples:
                self.ranker.learn(Shown.unpack(some, len(INPUTS)))
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

    # -- ranking ----------------------------------------------------------------------------------

    def _ranked(
        self,
        recent: I64,
        bought: I64,
        now_ms: I64,
        length: int,
        among: int,
        weights: F64 | None,
        segment: I64,
        running: Running | None,
    ) -> Candidates:
        """The best candidates; where ranking is in force, those of some more."""
        if self.ranker is None or not self.ranker.in_force:
            return self.gatherer.gather(recent, bought, length, weights, segment, running)
        lists = self.gatherer.gather(recent, bought, among, weights, segment, running)
        X = inputs(self.items, lists, recent, segment, now_ms, np.ones(lists.item.shape))
        chances = self.ranker.chances(X.reshape(-1, len(INPUTS))).reshape(lists.item.shape)
        return lists.ordered(chances * self.items.table["boost"][lists.item], length)

    def _follow(self, table: Table, events: Groups, batch: Batch) -> None:
        """Park what was shown as it stands before the batch is learned; see what was taken."""
        kinds, ts_ms = batch.type[events.index], batch.ts_ms[events.index]
        items = batch.item.take(events.index).hashes()
        self._note(self._impressions.end(int(ts_ms.max())))
        shown = np.flatnonzero(kinds == IMPRESSION)
        most = self._pace.take(len(shown), int(ts_ms.max())) if len(shown) else 0
        if most:
            shown = shown[:: -(-len(shown) // most)]
            looked_at = batch.value[events.index[shown]]
            self._show(table, events.row_of[shown], items[shown], ts_ms[shown], looked_at)
        taken = np.flatnonzero(self._takes[kinds])
        if len(taken) and len(self._impressions):
            self._impressions.take(events.row_of[taken], items[taken], ts_ms[taken])

    def _show(self, table: Table, rows: I64, items: U64, ts_ms: I64, looked_at: F64) -> None:
        users, which = np.unique(rows, return_inverse=True)
        recent = self.items.find(self.recent.items(table, users))
        bought = self.items.find(self.bought.items(table, users))
        weights, running = self._source_weights(table, users), self._running(table, users)
        segment, most = self._segments(users), _LOOKED_THROUGH
        lists = self.gatherer.gather(recent, bought, most, weights, segment, running)
        lists = lists.of(which, self.items.find(items))
        likely = np.where((looked_at > 0.0) & (looked_at <= 1.0), looked_at, 1.0)
        X = inputs(
            self.items, lists, recent[which], segment[which], ts_ms, likely[:, None]
        )[:, 0]  # fmt: skip
        known = lists.item[:, 0] >= 0
        self._impressions.show(
            rows[known], items[known], ts_ms[known], X[known], lists.score[known, 0]
        )

    def _note(self, some: Shown) -> None:
        """Learn at once where there is nobody to exchange with; else when they are read back."""
        if not len(some) or self.ranker is None:
            return
        if self.exchange_ms:
            self._taken.append(some)
        else:
            self.ranker.learn(some)

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

    def _source_weights(self, table: Table, rows: I64) -> F64 | None:
        """The learned weights of sources for some users; None while the settings' hold."""
        return None if self._seeking is None else self._seeking.in_force(table, rows)

    def _running(self, table: Table, rows: I64) -> Running | None:
        """The sessions of some users; None where nobody asks."""
        if self._sessions is None:
            return None
        return self._sessions.of(table, rows, self.recent.at_ms(table, rows))

    def _learn(self, some: Interactions) -> None:
        self.items.learn(some)
        if not (self.keeps and self.exchange_ms):
            self.items.forgotten.clear()  # nobody will ask

    def _interactions(self, table: Table, events: Groups, batch: Batch) -> Interactions:
        """What some events teach, by their times; updates what users had to do with last."""
        index, rows = events.index, events.row_of
        ids = batch.item.take(index)
        item, ts_ms, kinds = ids.hashes(), batch.ts_ms[index], batch.type[index]
        plan = self.plan
        before = np.zeros((len(index), plan.steps), dtype=np.uint64)
        matters = np.flatnonzero(self._matters[kinds])
        since_ms = np.full(len(matters), -1, dtype=np.int64)
        new = np.zeros((len(matters), plan.recent + 1), np.uint64) if self._asks_had else None
        before[matters] = self.recent.update(
            table, rows[matters], item[matters], ts_ms[matters], kinds[matters], plan.steps,
            plan.gap_ms, new, since_ms,
        )  # fmt: skip
        stay = np.zeros(len(index), dtype=np.float32)
        stay[matters] = stay_of(since_ms)
        rating = rating_of(kinds == RATING, batch.value[index])
        session = had = None
        if self._sessions is not None:
            session = np.zeros(len(index), dtype=np.uint64)
            session[matters] = self._sessions.update(
                table, rows[matters], item[matters], ts_ms[matters]
            )
        together = np.zeros((len(index), plan.bought - 1), dtype=np.uint64)
        buys = np.flatnonzero(kinds == PURCHASE)
        together[buys] = self.bought.update(
            table, rows[buys], item[buys], ts_ms[buys], kinds[buys], plan.bought - 1,
            plan.basket_ms,
        )  # fmt: skip
        pieces = np.maximum(batch.quantity[index], 1)
        seen = seen_of(ids, batch.category.take(index), batch.amount_minor[index] // pieces)
        label, labels = self._label_of(rows)
        order = np.argsort(ts_ms, kind="stable")
        if new is not None:
            had = np.zeros((len(index), plan.recent + 1), dtype=np.uint64)
            had[matters] = new
            had = had[order]
        return Interactions(
            *(item[order], ts_ms[order], kinds[order], before[order], together[order]),
            *(seen, stay[order], rating[order], label[order], labels),
            *(None if session is None else session[order], had),
        )

    def _label_of(self, rows: I64) -> tuple[I8, tuple[str, ...]]:
        """The labels of some users, places int8[n], -1 for none, and their names."""
        if self._labels is None or not self.items.tells_apart:
            return np.full(len(rows), -1, dtype=np.int8), ()
        return self._labels.of(self.plan.segment, rows)

    def _segments(self, rows: I64) -> I64:
        """Their numbers in the item table, int64[n]."""
        return self.items.segment_of(*self._label_of(rows))

    def _weights(self, table: Table, rows: I64, served: Served) -> F64 | None:
        """What each source says for each user, float64[n, sources]; None where all are alike.

        What an arm changes, it changes by the same factor where other weights were learned.
        """
        if not any(served.changes) and not served.held_out.any():
            return None
        plan = self.plan.source_weights
        changed = [
            {**self.plan.sources, **{p.removeprefix(_OVERRIDDEN): v for p, v in each.items()}}
            for each in served.changes
        ]
        weights = np.array([[each.get(name, 0.0) for name in SOURCES] for each in changed])
        out: F64 = weights[served.which].astype(np.float64)
        learned = self._source_weights(table, rows)
        if learned is not None:
            out *= np.where(plan > 0.0, learned / np.where(plan > 0.0, plan, 1.0), 1.0)
        out[served.held_out] = 0.0
        out[served.held_out, POPULAR] = 1.0
        return out
