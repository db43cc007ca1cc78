"""The topics beside the events: their names, and making them as they must be.

The events topic is not among them: it belongs to the producers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ClusterMetadata,
    NewTopic,
)

from operators.broker_errors import silent

log = structlog.get_logger()

_EMBEDDED: Final = "mockCluster"
"""How the cluster id of librdkafka's built-in broker begins."""

_TIMEOUT_S: Final = 10.0
_NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"
"""What a broker says that gives topics no ids."""

_COMPACTED: Final = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
}
"""Read from end to end at a start, so they are kept short."""


@dataclass(slots=True, frozen=True)
class Topics:
    """Names.

    Attributes:
        changes: one record for each entry into or exit from a segment.
        memberships: compacted; the segments that each user is in.
        positions: compacted; how far each shard's changes have been published.
        dead: dead letters.
        catalog: compacted; what the shop says of its items. Empty for none.
    """

    changes: str = "segment-changes"
    memberships: str = "memberships"
    positions: str = "publisher-positions"
    dead: str = "events.dead"
    catalog: str = ""


def is_embedded(config: Mapping[str, Any]) -> bool:
    """Whether the broker is librdkafka's built-in one, which has no transactions.

    Raises:
        BrokerSilent: no broker answers.
    """
    try:
        admin = AdminClient({**config, "log_level": 2})
        return cluster_is_embedded(admin.list_topics(timeout=_TIMEOUT_S))
    except KafkaException as error:
        raise silent(error, config) from error


def make_topics(config: Mapping[str, Any], topics: Topics, like: str) -> None:
    """Make those that are missing, with as many partitions as the topic ``like`` has.

    What may not be made is only said: whoever runs the broker may have made it, or must. On the
    embedded broker topics appear by first use.
    """
    admin = AdminClient({**config, "log_level": 2})
    try:
        known = admin.list_topics(timeout=_TIMEOUT_S)
        if cluster_is_embedded(known):
            return
        model = known.topics.get(like)
        count = len(model.partitions) if model is not None else 4
        wanted = {
            topics.changes: (count, {}),
            topics.memberships: (count, _COMPACTED),
            topics.positions: (1, _COMPACTED),
            topics.dead: (1, {}),
        }
        if topics.catalog:
            wanted[topics.catalog] = (1, _COMPACTED)
        new = [
            NewTopic(name, num_partitions=n, replication_factor=-1, config=settings)
            for name, (n, settings) in wanted.items()
            if name not in known.topics
        ]
        if not new:
            return
        futures = admin.create_topics(new, operation_timeout=_TIMEOUT_S)
    except KafkaException as error:
        log.warning("topics_not_made", error=error.args[0].str())
        return
    for name, future in futures.items():
        try:
            future.result()
            log.info("topic_made", topic=name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                log.warning("topic_not_made", topic=name, error=error.args[0].str())


def identity(config: Mapping[str, Any], topic: str) -> str:
    """What tells this topic from another of its name: the cluster's id, and its own if it has one.

    Empty where nothing can be told: of the embedded broker, a missing topic, an old broker.

    Raises:
        BrokerSilent: no broker answers.
    """
    admin = AdminClient({**config, "log_level": 2})
    try:
        known = admin.list_topics(timeout=_TIMEOUT_S)  # asking for one would make it
    except KafkaException as error:
        raise silent(error, config) from error
    if cluster_is_embedded(known) or topic not in known.topics:
        return ""
    try:
        (found,) = admin.describe_topics(TopicCollection([topic])).values()
        topic_id = str(found.result(_TIMEOUT_S).topic_id)
    except (KafkaException, TimeoutError):
        return ""
    cluster = known.cluster_id or ""
    return cluster if topic_id == _NO_ID else f"{cluster}/{topic_id}"


def cluster_is_embedded(known: ClusterMetadata) -> bool:
    """Whether what a broker says of itself is said by librdkafka's built-in one."""
    return (known.cluster_id or "").startswith(_EMBEDDED)
