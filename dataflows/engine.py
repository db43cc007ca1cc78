"""The engine over Kafka and Redis: one worker that owns every shard."""

from __future__ import annotations

import gc
from datetime import timedelta

from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from dataflows import plans
from dataflows.profiles import build
from dataflows.settings import Settings
from events.decode import Decoder
from models.learning import PurchaseLearner
from operators.dead_letters import DeadLetterWriter
from operators.decode_step import DecodeStep
from operators.lane_step import LaneLogic, wall_clock_ms
from operators.metrics import Metrics
from operators.publish import KafkaPublisher
from operators.source import EventSource
from operators.stop import Stop
from state.checkpoint import Checkpoint
from state.lane import Lane
from state.store import Store

LANE = "lane-0"
EPOCH_S = 0.5
"""Rows inside one epoch queue without bound, so epochs are short."""


def run(settings: Settings, stop: Stop) -> None:
    """Run until the flag is raised; returns when everything is committed and published."""
    metrics = Metrics()
    if settings.metrics.address:
        metrics.serve(settings.metrics.address)
    store = open_store(settings)
    cli_main(assemble(settings, store, metrics, stop), epoch_interval=timedelta(seconds=EPOCH_S))


def open_store(settings: Settings) -> Store:
    """The store that the settings name, answering."""
    chosen = settings.redis
    store = Store(
        chosen.url.get_secret_value(),
        chosen.prefix,
        chosen.shards,
        timeout_s=chosen.timeout / 1000,
        give_up_s=chosen.give_up / 1000,
    )
    store.ping()
    store.check_meta()
    return store


def open_lane(settings: Settings) -> Lane:
    """An empty lane of all shards."""
    spec = plans.purchase_spec(settings)
    learner = None if spec is None else PurchaseLearner(spec)
    return Lane(plans.lane_plan(settings), range(settings.redis.shards), learner)


def assemble(settings: Settings, store: Store, metrics: Metrics, stop: Stop) -> Dataflow:
    """The dataflow with its real parts."""
    kafka = plans.kafka_config(settings)
    shards = settings.redis.shards

    def open_logic(_resume: object) -> LaneLogic:
        lane = open_lane(settings)
        checkpoint = Checkpoint(lane, store)
        left = checkpoint.open()
        settle_memory()
        policy = plans.commit_policy(settings)
        return LaneLogic(lane, checkpoint, policy, wall_clock_ms, metrics, left)

    return build(
        EventSource(kafka, plans.source_spec(settings), store.positions, stop, metrics.observe_lag),
        DecodeStep(
            Decoder(plans.event_rules(settings)),
            DeadLetterWriter(kafka, settings.kafka.dead),
            [LANE],
            shards,
            metrics,
        ),
        open_logic,
        KafkaPublisher(kafka, settings.kafka.changes, store.trim),
    )


def settle_memory() -> None:
    """Take what lives for ever (modules, loaded users) out of the garbage collector's sight.

    A full collection would walk all of it, tens of milliseconds each time, to find nothing.
    """
    gc.collect()
    gc.freeze()
