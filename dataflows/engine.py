"""The engine over Kafka and Redis: one worker that owns every shard, or several that share them."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from threading import Thread
from typing import Final

import structlog
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from dataflows import plans
from dataflows.definitions import decided_by, register, warn
from dataflows.profiles import build
from dataflows.settings import Settings
from events.decode import Decoder
from operators.broker_news import SILENT
from operators.catalog import CatalogReader
from operators.dead_letters import DeadLetterWriter
from operators.decode_step import DecodeStep
from operators.definitions import DefinitionFollower
from operators.heart import Heart
from operators.lane_step import BEHIND_MS, LaneLogic, wall_clock_ms
from operators.metrics import Metrics
from operators.publish import KafkaPublisher
from operators.recovery import recover
from operators.routing import lane_names, lane_shards
from operators.source import EventSource
from operators.stop import Stop
from operators.topics import identity, is_embedded, make_topics
from operators.witness import Witness
from state.checkpoint import Checkpoint
from state.definition_set import DefinitionSet
from state.definition_store import DefinitionStore
from state.lane import Lane
from state.store import Store

log = structlog.get_logger()

_BREAK_S: Final = 0.02
_COLLECT_EVERY: Final = 50_000
"""Objects made and not yet freed before the youngest are looked through; a read has thousands."""
_EPOCH: Final = timedelta(days=365)
"""A run has one epoch: what may queue is bounded by ``operators.ahead``."""


class WorkerGone(Exception):
    """Another worker of the cluster has ended, which ends them all."""


@dataclass(slots=True, frozen=True)
class Place:
    """Which worker of which cluster this process is.

    Attributes:
        worker: its number, from 0.
        addresses: ``host:port`` of every worker; none where there is only this one.
        pipe: file descriptor for heartbeats to a supervisor.
    """

    worker: int = 0
    addresses: tuple[str, ...] = ()
    pipe: int | None = None

    @property
    def workers(self) -> int:
        """How many there are."""
        return max(len(self.addresses), 1)


ALONE = Place()


def run(
    settings: Settings,
    stop: Stop,
    place: Place = ALONE,
    on_error: Callable[[Exception], None] = lambda _: None,
) -> None:
    """Run until the flag is raised; returns when everything is committed and published.

    Args:
        settings: in force.
        stop: the flag.
        place: which worker this is.
        on_error: told the first error at once; in a cluster it should end the process.
    """
    metrics = Metrics()
    if settings.metrics.address:
        metrics.serve(settings.metrics.address)
    metrics.build.info({"version": version("afterglow")})
    log.info(
        "engine_started",
        version=version("afterglow"),
        pid=os.getpid(),
        worker=place.worker,
        workers=place.workers,
        metrics=settings.metrics.address,
    )
    store = _connected(settings)
    store.meta.begin()
    events = settings.kafka.events
    store.meta.agree_log(events, identity(plans.kafka_config(settings), events))
    store.meta.agree_money(settings.events.currency, settings.events.minor_digits)
    witness = Witness(on_error)
    flow = assemble(settings, store, metrics, stop, place, witness)
    cluster = {"process_id": place.worker, "addresses": list(place.addresses)}
    try:
        cli_main(flow, epoch_interval=_EPOCH, **cluster if place.addresses else {})
    except BaseException as error:
        if witness.first is not None:
            raise witness.first from error
        if type(error).__module__ == "pyo3_runtime":
            raise WorkerGone("another worker is gone, so this one ends too") from error
        raise
    log.info("engine_drained", worker=place.worker)


def open_store(settings: Settings) -> Store:
    """The store that the settings name, answering, in which an engine has been at work.

    Raises:
        StoreEmpty: none has; only an engine begins a store.
    """
    store = _connected(settings)
    store.meta.expect()
    return store


def _connected(settings: Settings) -> Store:
    chosen = settings.redis
    store = Store(
        chosen.url.get_secret_value(),
        chosen.prefix,
        chosen.shards,
        timeout_s=chosen.timeout / 1000,
        give_up_s=chosen.give_up / 1000,
    )
    store.ping()
    return store


def open_lane(
    settings: Settings, place: Place = ALONE, definitions: DefinitionSet | None = None
) -> Lane:
    """An empty lane of this worker's shards.

    Args:
        settings: in force.
        place: which worker this is.
        definitions: of segments; None for those of the settings.
    """
    shards = lane_shards(place.worker, place.workers, settings.redis.shards)
    plan = plans.lane_plan(settings)
    if definitions is not None:
        plan = replace(
            plan,
            segments=definitions.segments,
            families=definitions.families,
            paused=definitions.paused,
        )
    learner = plans.learner(settings, trains=0 in shards)
    recommender = plans.recommender(settings, keeps=0 in shards)
    return Lane(plan, shards, learner, recommender)


def open_catalog(settings: Settings, lane: Lane, heart: Heart) -> CatalogReader | None:
    """The catalogue, read to its end: no list goes out before it is known what is available."""
    if lane.recommender is None or not settings.kafka.catalog:
        return None
    kafka = SILENT | plans.kafka_config(settings)
    reader = CatalogReader(kafka, settings.kafka.catalog, plans.event_rules(settings))
    for facts in reader.catch_up():
        lane.recommender.take_facts(facts)
        heart.beat()
    return reader


def assemble(
    settings: Settings,
    store: Store,
    metrics: Metrics,
    stop: Stop,
    place: Place,
    witness: Witness,
) -> Dataflow:
    """The dataflow with its real parts."""
    kafka = SILENT | plans.kafka_config(settings)
    heart = Heart(place.pipe)
    others = [lane for lane in range(place.workers) if lane != place.worker]

    def told() -> list[dict[int, int]] | None:
        places = store.lane_places.said()
        return None if places is None else [places.get(lane, {}) for lane in others]

    embedded = is_embedded(kafka)
    source = EventSource(
        kafka,
        plans.source_spec(settings, embedded=embedded),
        store.positions,
        stop,
        metrics.observe_lag,
        place.workers,
        told if others else None,
    )
    source.check()
    topics = plans.topics(settings)
    make_topics(kafka, topics, settings.kafka.events)

    def open_logic(_resume: object) -> LaneLogic:
        begun_s = time.monotonic()
        if others:
            store.lane_places.forget(place.worker)
        revisions = DefinitionStore(store)
        shards = lane_shards(place.worker, place.workers, settings.redis.shards)
        revision = register(settings, revisions, wall_clock_ms())
        warn(settings, revision)
        begun = decided_by(settings, revisions, store, shards) or revision
        lane = open_lane(settings, place, begun.definitions)
        follower = DefinitionFollower(lane, revisions, begun)
        checkpoint = Checkpoint(lane, store, heart.beat)
        left = checkpoint.open()  # takes the fences first
        metrics.fence.labels(place.worker).set(store.epoch)
        recover(lane, kafka, topics, wall_clock_ms(), left)
        catalog = open_catalog(settings, lane, heart)
        lane.steer(wall_clock_ms())
        settle_memory()
        heart.beat()
        prepare(lane)
        ahead_ms = lane.clock.now_ms - wall_clock_ms()
        if ahead_ms > BEHIND_MS:
            log.warning("clock_behind", seconds=ahead_ms // 1000)
        if lane.outdated:
            log.warning("users_measured_otherwise", users=lane.outdated)
        log.info(
            "lane_opened",
            worker=place.worker,
            shards=len(lane.shards),
            users=lane.table.size,
            unpublished=len(left),
            seconds=round(time.monotonic() - begun_s, 2),
            fence=store.name,
        )
        policy = plans.commit_policy(settings)
        say = partial(store.lane_places.say, place.worker) if others else None
        logic = LaneLogic(
            lane, checkpoint, policy, wall_clock_ms, metrics, left, heart, catalog, follower, say
        )
        return witness.watch(logic, "on_batch", "on_eof")

    decode = DecodeStep(
        Decoder(plans.event_rules(settings, store.meta.salt())),
        DeadLetterWriter(kafka, settings.kafka.dead),
        lane_names(place.workers),
        settings.redis.shards,
        metrics,
    )
    publisher = KafkaPublisher(
        kafka,
        plans.publisher_terms(settings, has_transactions=not embedded),
        store.outbox.trim,
        store.owns,
        heart.beat,
        metrics=metrics,
    )
    return build(
        witness.watch_parts(source, "next_batch"),
        witness.watched(decode),
        witness.watched(open_logic),
        witness.watch_parts(publisher, "write_batch", "close"),
    )


def prepare(lane: Lane) -> Thread:
    """Build what models need some time, in the breaks of a thread of its own."""

    def work(steps: Iterator[None]) -> None:
        for _ in steps:
            time.sleep(_BREAK_S)

    steps = iter(()) if lane.learner is None else lane.learner.preparing()
    thread = Thread(target=work, args=(steps,), daemon=True)
    thread.start()
    return thread


def settle_memory() -> None:
    """Take what lives for ever (modules, loaded users) out of the garbage collector's sight.

    A full collection would walk all of it, tens of milliseconds each time, to find nothing. The
    young are looked through seldom: the engine makes no cycles, but thousands of messages a read.
    What loading needed and needs no more goes back to the system, where the C library can do that.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
