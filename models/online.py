"""The models in the flow: park, flag, mature, learn, score.

This is all that a lane sees of them. Every lane takes snapshots of its users and makes examples of
them when their time has come. One lane learns from the examples of all (``models.trainer``) and
publishes how to score by it (``models.scorer``); the others score by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.schema import TYPES
from models.contract import F64, ModelMismatch
from models.examples import Examples
from models.parked import should_park
from models.plan import ModelPlan
from models.scorer import Scorer
from models.snapshots import Snapshots
from models.trainer import Trainer
from state.expressions import ExpressionError
from state.features import Feature, RowView
from state.groups import Groups
from state.learner import Entries, Score
from state.nodes import Nodes
from state.quantities import Quantity, matrix, quantity
from state.store_errors import StoreMismatch
from state.times import NEVER_MS
from state.view import Kind

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class UnknownInput(Exception):
    """An input of a model is not a quantity; the message says what is wrong with it."""


class OnlineModels:
    """All models of one lane; see ``state.learner.Learner``.

    Args:
        plan: what they foretell.
        trains: whether this lane is the one that learns.
        at_once: learn in memory what its own snapshots come to, and send nothing to the store: for
            a replay, which is a single lane and has no time to lose between two events.
        listen: gets examples just before they are learned.

    Attributes:
        quantities: all inputs, compiled for the lane's features.
    """

    def __init__(
        self,
        plan: ModelPlan,
        *,
        trains: bool = True,
        at_once: bool = False,
        listen: Callable[[Examples], None] = lambda _examples: None,
    ) -> None:
        self.plan = plan
        self.trains = trains
        self.validity_ms = plan.validity_ms
        self.scorer = Scorer(plan)
        self.scores: Sequence[Score] = self.scorer.scores
        self.snapshots = Snapshots(plan)
        self.parked = self.snapshots.entries
        self.trainer = Trainer(plan) if trains else None
        self._at_once = at_once
        self._listen = listen
        self.quantities: list[Quantity] = []
        self._decides = np.zeros(len(TYPES), dtype=np.bool_)
        self._decides[list(plan.at) or slice(None)] = True
        self._waiting: list[tuple[Examples, I64]] = []
        self._version = 0
        self._quality_version = -1
        self._quality: dict[str, dict[str, float | None]] = {}
        self._learned_ms = NEVER_MS

    # -- in the lane ------------------------------------------------------------------------------

    def attach(self, features: Mapping[str, Feature]) -> dict[str, Feature]:
        """Compile the inputs; the scores as features, with and without ``scores.``.

        Raises:
            UnknownInput: an input that is no quantity.
        """
        kinds = {name: feature.kind for name, feature in features.items()}
        nodes = Nodes()
        for text in self.plan.inputs:
            try:
                self.quantities.append(quantity(text, kinds, nodes))
            except ExpressionError as error:
                raise UnknownInput(f"models.{self._asker(text)}inputs: {error}") from error
        named = {}
        for place, score in enumerate(self.scores):
            feature = Feature(Kind.NUMBER, self._column(place), next_step=self._next_look)
            named[f"scores.{score.name}"] = feature
            if score.name not in features:
                named[score.name] = feature
        return named

    def observe(self, view: RowView, groups: Groups, batch: Batch) -> None:
        """Flag what the batch decides, then take snapshots of the users that are sampled."""
        self.snapshots.flag(groups, batch)
        chosen = self._sampled(view, groups, batch)
        if not len(chosen):
            return
        chosen = chosen[self.snapshots.vacant(view.rows[chosen], view.now_ms[chosen])]
        if not len(chosen):
            return
        part = view.part(chosen)
        X = matrix(part, self.quantities)
        P = self.scorer.foretell(X)
        self._send(self.snapshots.take(part.rows, part.now_ms, X, P), part.rows)

    def forget(self, rows: I64) -> None:
        """These users leave: their snapshots end without outcome."""
        self.snapshots.forget(rows)

    def mature(self, clock_ms: int) -> None:
        """Make examples of what the clock has passed; in a replay, learn them."""
        if clock_ms - self._learned_ms < self.plan.learn_every_ms:
            return
        self._learned_ms = clock_ms
        self._send(*self.snapshots.mature(clock_ms))
        if self._at_once and self._waiting and self.trainer is not None:
            parts, self._waiting = self._waiting, []
            self._learn(self.trainer, Examples.joined((e for e, _ in parts), self._inputs))

    def wants_population(self, clock_ms: int) -> bool:
        """Whether it is time to fit what looks at many users at once."""
        return self.trainer is not None and self.trainer.wants_population(clock_ms)

    def learn_population(self, view: RowView) -> None:
        """Fit what looks at many users at once."""
        if self.trainer is not None:
            self.trainer.learn_population(view)
            self._take_over()

    # -- with the store ---------------------------------------------------------------------------

    def outgoing(self, shard_of: NDArray[np.integer]) -> dict[int, bytes]:
        """Examples that are not stored yet, by the shard of their users."""
        if not self._waiting or self._at_once:
            return {}
        rows = np.concatenate([rows for _, rows in self._waiting])
        columns = [(e.task, e.ts_ms, e.y, e.p, e.X) for e, _ in self._waiting]
        examples = Examples(*(np.concatenate(c) for c in zip(*columns, strict=True)))
        shards = shard_of[rows]
        mark = self.plan.fingerprint
        return {
            int(shard): examples.take(shards == shard).pack(mark) for shard in np.unique(shards)
        }

    def settle(self) -> None:
        """The store has them."""
        if not self._at_once:
            self._waiting.clear()

    def positions(self) -> Mapping[int, str]:
        """Up to which place of each shard's examples it has learned."""
        return {} if self.trainer is None else self.trainer.positions

    def learn(self, entries: Entries) -> bool:
        """Learn stored examples in the order of their times; whether anything is new."""
        if self.trainer is None:
            return False
        if entries:
            mark, inputs = self.plan.fingerprint, self._inputs
            blocks = [block for held in entries.values() for _, block in held]
            parts = (Examples.unpack(block, mark, inputs) for block in blocks)
            self.trainer.positions |= {shard: held[-1][0] for shard, held in entries.items()}
            self._learn(self.trainer, Examples.joined(parts, inputs))
        return self.trainer.is_new()

    def memory(self) -> bytes:
        """All that the learning lane must not forget."""
        return b"" if self.trainer is None else msgspec.msgpack.encode(self.trainer.to_state())

    def published(self) -> bytes:
        """What other lanes need for scoring."""
        return b"" if self.trainer is None else msgspec.msgpack.encode(self.trainer.scoring())

    def adopt(self, published: bytes | None) -> None:
        """Score by what the lane that learns has published, if that is newer."""
        if not published:
            return
        told = msgspec.msgpack.decode(published)
        if told["version"] != self._version and told["plan"] == self.plan.fingerprint:
            self._version = told["version"]
            self.scorer.take_over(told)

    def restore(self, memory: bytes | None, published: bytes | None) -> None:
        """Take over what was kept; the snapshots are loaded by then.

        Raises:
            StoreMismatch: a saved model does not fit the settings.
        """
        self.snapshots.restore()
        if self.trainer is None:
            self.adopt(published)
        elif memory:
            try:
                self.trainer = Trainer.from_state(msgspec.msgpack.decode(memory), self.plan)
            except ModelMismatch as error:
                raise StoreMismatch(
                    f"{error}. `afterglow models reset NAME` deletes a saved model"
                ) from error
            self._take_over()

    def reset(self, names: Sequence[str]) -> None:
        """Begin the models of some tasks anew."""
        if self.trainer is None:
            return
        state = self.trainer.to_state()
        state["tasks"] = {n: task for n, task in state["tasks"].items() if n not in names}
        state["version"] += 1
        self.trainer = Trainer.from_state(state, self.plan)
        self._take_over()

    def preparing(self) -> Iterator[None]:
        """Challengers are built in small steps, by another thread while events come."""
        if self.trainer is not None:
            yield from self.trainer.preparing()

    def quality(self) -> dict[str, dict[str, float | None]]:
        """By model, how well it does, and what waits; None for what is not known yet."""
        if self.trainer is not None and self._quality_version != self.trainer.version:
            self._quality_version = self.trainer.version
            self._quality = self.trainer.quality()
        self._quality["parked"] = {
            "snapshots": float(len(self.snapshots)),
            "refused": float(self.snapshots.refused),
        }
        return self._quality

    def alerts(self) -> list[str]:
        """What somebody should know and was not told yet."""
        if self.trainer is None:
            return []
        told, self.trainer.untold = self.trainer.untold, []
        return told

    # -- inside -----------------------------------------------------------------------------------

    def _asker(self, text: str) -> str:
        """Which task's own an input is, as a part of its path; empty for one of several."""
        asking = [task.name for task in self.plan.tasks if text in task.inputs]
        return f"tasks.{asking[0]}." if len(asking) == 1 else ""

    def _sampled(self, view: RowView, groups: Groups, batch: Batch) -> I64:
        """Which of the view's rows are sampled at this time, int64[n]."""
        plan = self.plan
        chosen = np.ones(len(view), dtype=np.bool_)
        if plan.at:
            fits = self._decides[batch.type[groups.index]]
            chosen = np.logical_or.reduceat(fits, groups.starts)
        if plan.rate < 1.0:
            users = view.ids.texts(view.rows).hashes()
            chosen &= should_park(users, view.now_ms, plan.every_ms, plan.rate)
        return np.flatnonzero(chosen)

    def _send(self, examples: Examples, rows: I64) -> None:
        if len(examples):
            self._waiting.append((examples, rows))

    @property
    def _inputs(self) -> int:
        return len(self.plan.inputs)

    def _learn(self, trainer: Trainer, examples: Examples) -> None:
        self._listen(examples)
        trainer.learn(examples)
        self._take_over()

    def _take_over(self) -> None:
        if self.trainer is not None:
            told = self.trainer.scoring()
            self._version = told["version"]
            self.scorer.take_over(told)

    def _column(self, place: int) -> Callable[[RowView], F64]:
        def value(view: RowView) -> F64:
            scores: F64 = view.once("model scores", self._score)[:, place]
            return scores

        return value

    def _score(self, view: RowView) -> F64:
        return self.scorer.score(matrix(view, self.quantities), view)

    def _next_look(self, view: RowView) -> I64:
        """Scores have no closed form in silence: they are looked at again at full hours."""
        every = self.plan.poll_ms
        return (view.now_ms // every + 1) * every
