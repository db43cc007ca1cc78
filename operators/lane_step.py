"""The lane as a Bytewax operator: one stateful key per lane, and nothing else is keyed.

The step owns what a lane must not know: the wall clock and when to commit. It commits at once when
no more input is known to wait, so that a quiet stream is fresh within milliseconds, and gathers
several batches into one commit while the source runs behind, so that a busy user is written once.
Everything is driven by what the source sends, empty reads included; there are no timers here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from bytewax.operators import StatefulBatchLogic

from events.batch import Batch
from operators.ahead import TOLD_S
from operators.broker_errors import SourceError
from operators.catalog import CatalogReader
from operators.definitions import DefinitionFollower
from operators.heart import Heart
from operators.metrics import Metrics
from operators.publish import PULSE, Published
from state.changes import decode_entry
from state.checkpoint import Checkpoint, Committed
from state.lane import Lane

_LOG: Final = structlog.get_logger("afterglow.lane")

_PULSE_S: Final = 0.2
"""The publisher is woken at least so often, so that it trims the outbox while nothing changes."""

_REPORT_S: Final = 0.1
"""What the lane has counted is shown so often."""

_LISTS_S: Final = 0.05
"""Lists of items are made so often: many at once cost less for each."""

_LISTS_BEHIND_S: Final = 1.0
"""And so often while more input is known to wait: most of their users will act again before."""

_THINK_S: Final = 0.05
"""The recommender goes on with what takes long so often."""

WallClock = Callable[[], int]
"""Gives epoch milliseconds."""

BEHIND_MS: Final = 2 * 86_400_000
"""So far a clock may lie behind events that were taken for good ones."""


def wall_clock_ms() -> int:
    """The machine's clock, epoch milliseconds UTC."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True, frozen=True)
class CommitPolicy:
    """When a lane commits.

    Attributes:
        max_events: at the latest after so many events.
        max_delay_s: at the latest so long after the first event that is not committed, while more
            input is known to wait; where none is, at once.
        heartbeat_s: how often the positions of idle shards are written.
        gather_events: while more input is known to wait, batches are applied so many events at
            once, because small ones cost more; no longer than ``max_delay_s`` are they kept for it.
        ahead: the next input is applied while the store writes; what was decided goes out then.
    """

    max_events: int = 20_000
    max_delay_s: float = 0.1
    heartbeat_s: float = 5.0
    gather_events: int = 5_000
    ahead: bool = False


class LaneLogic(StatefulBatchLogic[Batch, Published, None]):
    """Applies batches to one lane and hands on what its commits decided.

    Args:
        lane: the lane, loaded.
        checkpoint: its store.
        policy: when to commit.
        wall_ms: the wall clock; None in a replay, where only events move time.
        metrics: where to count.
        left: what the outbox still held when the lane was loaded; goes out before all else.
        heart: beats with the work.
        catalog: what the shop says of its items, if anything.
        definitions: keeps the lane at the definitions in force; None where they never change.
        say_place: told every so often how far the lane is in each partition, for readers elsewhere.
    """

    def __init__(
        self,
        lane: Lane,
        checkpoint: Checkpoint,
        policy: CommitPolicy,
        wall_ms: WallClock | None,
        metrics: Metrics,
        left: Sequence[Committed] = (),
        heart: Heart | None = None,
        catalog: CatalogReader | None = None,
        definitions: DefinitionFollower | None = None,
        say_place: Callable[[dict[int, int]], None] | None = None,
    ) -> None:
        self._say_place = say_place
        self._definitions = definitions
        self._heart = heart or Heart()
        self._catalog = catalog
        self._lane = lane
        self._left = [_published(c) for c in left]
        self._checkpoint = checkpoint
        self._policy = policy
        self._wall_ms = wall_ms
        self._metrics = metrics
        self._behind: set[int] = set()
        self._held: list[Batch] = []
        self._waiting_events = 0
        self._newest_record_ms = self._on_way_ms = -1
        self._is_on_way = False
        self._forgotten = 0
        self._first_waiting_s = 0.0
        self._heartbeat_s = self._sent_s = self._shared_s = time.monotonic()
        self._thought_s = self._said_s = self._listed_s = self._shared_s
        self._reported_s, self._is_reported = -_REPORT_S, True

    def on_batch(self, values: list[Batch]) -> tuple[Iterable[Published], bool]:
        """Apply what is at hand once it is enough, then commit if it is time."""
        out, self._left = self._left, []
        self._note_what_waits(values)
        if not self._held and not self._waiting_events:
            self._first_waiting_s = time.monotonic()
        self._held += values
        enough = min(self._policy.gather_events, self._policy.max_events)
        if self._is_due() or sum(map(len, self._held)) >= enough:
            out += self._apply()
        now_s = time.monotonic()
        self._make_lists(now_s)
        self._think(now_s)
        self._say(now_s)
        self._report(now_s)
        if out or now_s - self._sent_s >= _PULSE_S:
            self._sent_s = now_s
            return out or [PULSE], False
        return out, False

    def on_eof(self) -> tuple[Iterable[Published], bool]:
        """Input has ended: commit everything, idle shards included."""
        out = self._apply()
        self._heartbeat_s = 0.0
        out += [*self._commit(is_last=True), *self._finish()]
        self._report(math.inf)
        return out, False

    def notify_at(self) -> datetime | None:
        """No timers: the source's reads drive time."""
        return None

    def on_notify(self) -> tuple[Iterable[Published], bool]:
        """Never called, since ``notify_at`` asks for nothing."""
        return [], False

    def snapshot(self) -> None:
        """Nothing: the store is the checkpoint."""
        return

    def _note_what_waits(self, values: Sequence[Batch]) -> None:
        """Which partitions are behind: those of one reader may be while another's are not."""
        for batch in values:
            partitions = {span.partition for span in batch.spans}
            self._behind = self._behind | partitions if batch.more else self._behind - partitions

    def _apply(self) -> list[Published]:
        """Apply what is held, and commit whenever it is time."""
        out = []
        for batch in self._gathered():
            self._heart.beat()
            now = None if self._wall_ms is None else self._wall_ms()
            _check_clock(now, self._lane.clock.newest_ms)
            with self._metrics.step("apply"):
                self._lane.apply(batch, now)
            self._newest_record_ms = max(self._newest_record_ms, batch.newest_record_ms)
            self._waiting_events += len(batch)
            self._say(time.monotonic())
            if self._is_due():
                out += self._commit()
                self._first_waiting_s = time.monotonic()
        return out

    def _say(self, now_s: float) -> None:
        """Where the lane is, if it is time: all its shards have taken the same."""
        if self._say_place is not None and now_s - self._said_s >= TOLD_S:
            self._said_s = now_s
            self._say_place(self._lane.positions.of(self._lane.shards[0]))

    def _gathered(self) -> Iterator[Batch]:
        """What is held in batches as large as a commit may be."""
        held, self._held = self._held, []
        some: list[Batch] = []
        events = 0
        for batch in held:
            if some and events + len(batch) > self._policy.max_events:
                yield Batch.chained(some)
                some, events = [], 0
            some.append(batch)
            events += len(batch)
        if some:
            yield Batch.chained(some)

    def _report(self, now_s: float) -> None:
        """Show what the lane counted, if there is anything new and it is time."""
        if self._is_reported or now_s - self._reported_s < _REPORT_S:
            return
        self._is_reported, self._reported_s = True, now_s
        lane, metrics = self._lane, self._metrics
        metrics.observe(lane.counters)
        if forgotten := lane.counters.forgotten - self._forgotten:
            self._forgotten += forgotten
            _LOG.info("users_forgotten", users=forgotten, left=len(lane.users))
        metrics.rows.set(len(lane.users))
        metrics.observe_sizes(lane.decider.plan.names, lane.decider.sizes.tolist())
        metrics.observe_definitions(lane.decider.suppressed, lane.decider.plan.paused)
        metrics.stale.set(lane.redefiner.left)
        if self._definitions is not None:
            metrics.revision.set(self._definitions.revision.number)
        if lane.offering is not None:
            names = [spec.name for spec in lane.offering.plan.specs]
            given, sizes = lane.offering.given.tolist(), lane.offering.sizes.tolist()
            metrics.observe_offers(names, given, sizes)
        if lane.learner is not None:
            for model, measures in lane.learner.quality().items():
                metrics.observe_model(model, measures)
            for text in lane.learner.alerts():
                _LOG.warning("model_alert", alert=text)
                metrics.alerts.inc()
        if lane.recommender is not None:
            for part, measures in lane.recommender.quality().items():
                metrics.observe_model(part, measures)
        metrics.observe_experiments(lane.measures.experiments)
        if self._wall_ms is not None and lane.clock.now_ms >= 0:  # no time is known before
            metrics.delay.set((self._wall_ms() - lane.clock.now_ms) / 1000)

    def _share_items(self, now_s: float) -> None:
        recommender = self._lane.recommender
        if recommender is None or not recommender.exchange_ms:
            return
        if now_s - self._shared_s >= recommender.exchange_ms / 1000:
            self._shared_s = now_s
            with self._metrics.step("share"):
                self._checkpoint.share_items()
            with self._metrics.step("steer"):
                if self._catalog is not None:
                    recommender.take_facts(self._catalog.poll())
                    self._metrics.observe_catalog(self._catalog.counts)
                self._lane.steer(None if self._wall_ms is None else self._wall_ms())

    def _make_lists(self, now_s: float) -> None:
        """Make the lists of items whose turn it is, if it is time; the next commit takes them."""
        pace_s = _LISTS_BEHIND_S if self._behind else _LISTS_S
        if self._lane.recommender is not None and now_s - self._listed_s >= pace_s:
            self._listed_s = now_s
            with self._metrics.step("lists"):
                self._lane.make_lists()

    def _think(self, now_s: float) -> None:
        """Let the recommender go on with what takes long, where no input is known to wait."""
        if self._lane.recommender is None or self._behind or now_s - self._thought_s < _THINK_S:
            return
        self._thought_s = now_s
        with self._metrics.step("think"):
            self._lane.recommender.think()

    def _is_due(self) -> bool:
        return (
            not self._behind
            or self._waiting_events >= self._policy.max_events
            or time.monotonic() - self._first_waiting_s >= self._policy.max_delay_s
        )

    def _commit(self, *, is_last: bool = False) -> list[Published]:
        """Begin a commit, and finish the one before; what the finished ones decided.

        Lists of items follow at their own pace, so that profiles are there sooner; only the last
        commit has all of them.
        """
        now_s = time.monotonic()
        heartbeat = now_s - self._heartbeat_s >= self._policy.heartbeat_s
        if heartbeat:
            self._heartbeat_s = now_s
        with self._metrics.step("commit"):
            committed = self._checkpoint.begin(heartbeat=heartbeat, lists_later=not is_last)
        out = self._arrived(committed)
        self._is_on_way = True
        self._on_way_ms, self._newest_record_ms = self._newest_record_ms, -1
        self._waiting_events = 0
        if not self._policy.ahead:
            out += self._finish()
        self._share_items(now_s)
        if self._definitions is not None:
            with self._metrics.step("definitions"):
                self._definitions.step((self._wall_ms or wall_clock_ms)())
        return out

    def _finish(self) -> list[Published]:
        """Wait for the commit that was begun, if one was; what it decided."""
        with self._metrics.step("commit"):
            committed = self._checkpoint.finish()
        return self._arrived(committed)

    def _arrived(self, committed: Sequence[Committed]) -> list[Published]:
        """What the commit decided that was on its way, if one was."""
        record_ms, self._on_way_ms = self._on_way_ms, -1
        if self._is_on_way:
            self._is_on_way = self._is_reported = False
        if self._wall_ms is None:
            record_ms = -1
        elif record_ms >= 0:
            self._metrics.observe_commit((self._wall_ms() - record_ms) / 1000)
        return [_published(c, record_ms) for c in committed]


def _published(c: Committed, record_ms: int = -1) -> Published:
    return Published(c.shard, c.seq, decode_entry(c.changes), record_ms)


LaneBuilder = Callable[[object], LaneLogic]
"""What Bytewax calls at the hello that starts a lane; the argument is unused resume state."""


def _check_clock(wall_ms: int | None, newest_ms: int) -> None:
    """Refuse to go on by a clock that was set back: it would take all events for future ones."""
    if wall_ms is not None and newest_ms - wall_ms > BEHIND_MS:
        wall, newest = (
            datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
            for ms in (wall_ms, newest_ms)
        )
        raise SourceError(
            f"this machine's clock says {wall}, but events of {newest} have been processed: set "
            "the clock, then start again. Nothing is lost"
        )
