"""Facts of the broker and its topics; nothing is written and no offset is committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import (
    Consumer,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ResourceType,
)

from operators.broker_errors import BrokerSilent, is_forbidden
from operators.places import ends_of
from operators.topics import cluster_is_embedded, identity

_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 3.0


@dataclass(slots=True)
class Topic:
    """What the broker says of one topic.

    Attributes:
        partitions: how many.
        config: its settings; None if the broker does not tell.
        operations: what this user may do there; None if the broker does not tell.
    """

    partitions: int
    config: dict[str, str] | None = None
    operations: frozenset[str] | None = None


@dataclass(slots=True)
class BrokerFacts:
    """What the broker says.

    Attributes:
        error: why nothing could be asked; empty if it answers.
        embedded: whether it is the built-in one, whose topics appear by first use.
        topics: those that are there, of the ones asked for.
        hidden: those that this user may not know of, whether they are there or not.
        identity: what tells the events topic from another of its name; empty if nothing does.
        bounds: first offset and the one after the last, by partition of the events.
        newest_ms: the highest timestamp among the last events of the partitions.
        unread_ms: the lowest timestamp among the events that are read next.
    """

    error: str = ""
    embedded: bool = False
    topics: dict[str, Topic] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    identity: str = ""
    bounds: dict[int, tuple[int, int]] = field(default_factory=dict)
    newest_ms: int | None = None
    unread_ms: int | None = None


def gather_broker(
    config: Mapping[str, Any], topics: Iterable[str], events: str, positions: Mapping[int, int]
) -> BrokerFacts:
    """Ask the broker.

    Args:
        config: of a Kafka client.
        topics: names of all topics that matter.
        events: the one that is read.
        positions: where reading it goes on, by partition.
    """
    said: list[str] = []
    quiet = {**config, "log_level": 2, "error_cb": lambda error: said.append(error.str())}
    facts, topics = BrokerFacts(), list(topics)
    try:
        admin = AdminClient(quiet)
        try:
            known = admin.list_topics(timeout=_TIMEOUT_S)
        except KafkaException:
            admin.poll(0)  # what went wrong is only told to the callback
            raise
        facts.embedded = cluster_is_embedded(known)
        facts.topics = {
            name: Topic(len(known.topics[name].partitions))
            for name in topics
            if name and name in known.topics
        }
        if not facts.embedded:
            _describe(admin, facts.topics)
            facts.hidden = _hidden(quiet, {*topics} - {*facts.topics, ""})
        facts.identity = identity(config, events)
        if events in facts.topics:
            _read_ends(quiet, facts, events, positions)
    except KafkaException as error:
        reasons = dict.fromkeys([*said, error.args[0].str()])
        facts.error = "; ".join(list(reasons)[:2])
    except (ValueError, BrokerSilent) as error:
        facts.error = str(error)
    return facts


def _describe(admin: AdminClient, topics: dict[str, Topic]) -> None:
    """The settings and rights of topics; a broker that does not tell them is no fault."""
    if not topics:
        return
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
    for resource, future in admin.describe_configs(asked, request_timeout=_TIMEOUT_S).items():
        try:
            held = future.result(_TIMEOUT_S)
        except (KafkaException, TimeoutError):
            continue
        topics[resource.name].config = {name: entry.value for name, entry in held.items()}
    described = admin.describe_topics(
        TopicCollection(list(topics)),
        include_authorized_operations=True,
        request_timeout=_TIMEOUT_S,
    )
    for name, future in described.items():
        try:
            operations = future.result(_TIMEOUT_S).authorized_operations
        except (KafkaException, TimeoutError):
            continue
        if operations:
            topics[name].operations = frozenset(each.name.lower() for each in operations)


def _hidden(config: Mapping[str, Any], topics: Iterable[str]) -> set[str]:
    """Those that a list of all topics leaves out because this user has no rights there."""
    with closing(_consumer(config)) as consumer:
        found = (consumer.list_topics(name, timeout=_TIMEOUT_S).topics[name] for name in topics)
        return {each.topic for each in found if each.error and is_forbidden(each.error)}


def _consumer(config: Mapping[str, Any]) -> Consumer:
    """A consumer of nothing yet; unlike other clients it makes no topic by asking for it."""
    return Consumer({**config, "group.id": "afterglow-doctor", "enable.auto.commit": False})


def _read_ends(
    config: Mapping[str, Any], facts: BrokerFacts, events: str, positions: Mapping[int, int]
) -> None:
    with closing(_consumer(config)) as consumer:
        for p in range(facts.topics[events].partitions):
            facts.bounds[p] = ends_of(consumer, events, p, _TIMEOUT_S)
        last = {p: high - 1 for p, (low, high) in facts.bounds.items() if high > low}
        newest = _times(consumer, events, last)
        unread = {
            p: place
            for p, place in positions.items()
            if p in facts.bounds and facts.bounds[p][0] <= place < facts.bounds[p][1]
        }
        oldest = _times(consumer, events, unread)
    facts.newest_ms = max(newest, default=None)
    facts.unread_ms = min(oldest, default=None)


def _times(consumer: Consumer, topic: str, places: Mapping[int, int]) -> list[int]:
    """Timestamps of the messages at some places; of those that come in time."""
    times = []
    for partition, place in places.items():
        consumer.assign([TopicPartition(topic, partition, place)])
        message = consumer.poll(_POLL_S)
        if message is not None and message.error() is None:
            times.append(int(message.timestamp()[1]))
    return times
