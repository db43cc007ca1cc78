"""What is wrong with the broker and its topics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dataflows.doctor.broker import BrokerFacts, Topic
from dataflows.doctor.findings import Finding, fault, warning
from dataflows.settings import Settings

_DAY_MS: Final = 86_400_000
_AHEAD_MS: Final = 5000
_NEAR: Final = 0.5
"""Share of the retention time that the engine may lie behind."""
_LEAST_BYTES: Final = 65_536
"""Of one record that the engine writes."""
_NEEDS: Final[dict[str, frozenset[str]]] = {
    "events": frozenset({"read", "describe"}),
    "dead": frozenset({"write", "describe"}),
    "changes": frozenset({"write", "describe"}),
    "memberships": frozenset({"read", "write", "describe"}),
    "positions": frozenset({"read", "write", "describe"}),
    "catalog": frozenset({"read", "describe"}),
}
_COMPACTED: Final = frozenset({"memberships", "positions", "catalog"})


def topic_names(settings: Settings) -> dict[str, str]:
    """Topics by what they are for; without those that are switched off."""
    kafka = settings.kafka
    return {role: name for role in _NEEDS if (name := str(getattr(kafka, role)))}


def check_broker(
    facts: BrokerFacts,
    settings: Settings,
    positions: Mapping[int, int],
    log_identity: str,
    now_ms: float,
) -> Iterator[Finding]:
    """All of it.

    Args:
        facts: of the broker.
        settings: in force.
        positions: where reading goes on, by partition.
        log_identity: of the log that the positions belong to, as the store knows it; empty if not.
        now_ms: this machine's clock.
    """
    if facts.error:
        yield fault(
            "broker.reach",
            "the broker cannot be asked",
            "an answer at KAFKA_BOOTSTRAP",
            facts.error,
            "Check KAFKA_BOOTSTRAP, KAFKA_USERNAME, KAFKA_PASSWORD and kafka.options, that the "
            "broker runs, and the network between",
        )
        return
    names = topic_names(settings)
    yield from _check_there(facts, names)
    for role, name in names.items():
        if name in facts.topics:
            yield from _check_topic(role, name, facts.topics[name])
        elif name in facts.hidden:
            yield from _check_rights(role, name, frozenset())
    yield from _check_sizes(facts, names, settings.events.max_bytes)
    if names["events"] in facts.topics:
        yield from _check_positions(facts, names["events"], positions, log_identity)
        yield from _check_retention(facts, names["events"], now_ms)
        yield from _check_clock(facts, names["events"], now_ms)


def _check_there(facts: BrokerFacts, names: Mapping[str, str]) -> Iterator[Finding]:
    there = {*facts.topics, *facts.hidden}
    if names["events"] not in there:
        yield fault(
            "topic.missing",
            "there is nothing to read",
            f"a topic {names['events']!r} (kafka.events)",
            "none of this name",
            f"Create it: kafka-topics.sh --create --topic {names['events']} --partitions 4",
        )
    missing = [name for name in list(names.values())[1:] if name not in there]
    if missing and not facts.embedded:
        yield warning(
            "topic.to_make",
            "some topics are not there yet",
            "topics made by the engine at its first start, or by you",
            f"none named {', '.join(missing)}",
            "Nothing, if the engine may create topics; else create them beforehand",
        )


def _check_topic(role: str, name: str, topic: Topic) -> Iterator[Finding]:
    policy = (topic.config or {}).get("cleanup.policy")
    needed = "compact" if role in _COMPACTED else "delete"
    if policy is not None and policy != needed:
        why = "loses what is still needed" if needed == "compact" else "loses all but the last"
        yield fault(
            "topic.cleanup",
            f"the topic {name!r} {why} of each key",
            f"cleanup.policy {needed}",
            f"cleanup.policy {policy or 'none'}",
            f"kafka-configs.sh --alter --topic {name} --add-config cleanup.policy={needed}",
        )
    if topic.operations is not None:
        yield from _check_rights(role, name, topic.operations)


def _check_rights(role: str, name: str, held: frozenset[str]) -> Iterator[Finding]:
    lacking = _NEEDS[role] - held
    if lacking:
        yield fault(
            "topic.acl",
            f"the broker's user may not use the topic {name!r}",
            f"the rights {', '.join(sorted(_NEEDS[role]))}",
            f"no {', '.join(sorted(lacking))}",
            f"kafka-acls.sh --add --allow-principal User:<name> --topic {name} "
            + " ".join(f"--operation {each.capitalize()}" for each in sorted(lacking)),
        )


def _check_sizes(
    facts: BrokerFacts, names: Mapping[str, str], most_bytes: int
) -> Iterator[Finding]:
    events = _bytes(facts.topics.get(names["events"]))
    for role, name in names.items():
        held = _bytes(facts.topics.get(name))
        needed = {"events": most_bytes, "dead": max(events or 0, _LEAST_BYTES)}.get(
            role, _LEAST_BYTES
        )
        if held is not None and held < needed:
            why = {
                "events": "refuses events that events.max_bytes allows",
                "dead": "refuses the letters of the largest events, which stops the engine",
            }.get(role, "may refuse records of the engine, which stops it")
            yield fault(
                "topic.size",
                f"the topic {name!r} {why}",
                f"max.message.bytes of at least {needed:,}",
                f"{held:,}",
                f"kafka-configs.sh --alter --topic {name} --add-config max.message.bytes={needed}",
            )


def _check_positions(
    facts: BrokerFacts, events: str, positions: Mapping[int, int], log_identity: str
) -> Iterator[Finding]:
    away = "Point KAFKA_BOOTSTRAP back to the broker it was read from, or use another redis.prefix"
    known = "", facts.identity, facts.identity.partition("/")[0]  # topics may have had no ids yet
    if facts.identity and log_identity not in known:
        yield fault(
            "topic.identity",
            f"the stored positions belong to another topic {events!r}",
            log_identity,
            facts.identity,
            f"It was recreated, or this is another cluster. {away}",
        )
    count = facts.topics[events].partitions
    gone = sorted(p for p in positions if p >= count)
    if gone:
        yield fault(
            "topic.partitions",
            f"the topic {events!r} has fewer partitions than were read",
            f"at least {max(gone) + 1}",
            str(count),
            f"It was recreated, or this is another cluster. {away}",
        )
    for p, place in positions.items():
        low, high = facts.bounds.get(p, (place, place))
        if place < low:
            yield fault(
                "topic.retention",
                f"the log of {events!r} was cut off before the engine had read it",
                f"partition {p} from offset {place}",
                f"offsets {low} to {high}",
                "Events are lost. Start with another redis.prefix, or restore them; give the "
                "topic a longer retention",
            )
        elif place > high:
            yield fault(
                "topic.positions",
                f"the log of {events!r} ends before the stored position",
                f"partition {p} up to offset {place}",
                f"offsets {low} to {high}",
                f"It was recreated, or its broker lost its tail. {away}",
            )


def _check_retention(facts: BrokerFacts, events: str, now_ms: float) -> Iterator[Finding]:
    text = (facts.topics[events].config or {}).get("retention.ms", "")
    if not text.isdigit():  # -1 keeps for ever
        return
    kept_ms = int(text)
    longer = f"kafka-configs.sh --alter --topic {events} --add-config retention.ms=604800000"
    behind_ms = 0.0 if facts.unread_ms is None else now_ms - facts.unread_ms
    if behind_ms > _NEAR * kept_ms:
        yield fault(
            "topic.retention",
            f"the log of {events!r} will soon be cut off before the engine has read it",
            f"an engine at most {_NEAR * kept_ms / 1000:,.0f} s behind (retention.ms {kept_ms:,})",
            f"one that is {behind_ms / 1000:,.0f} s behind",
            f"Start the engine, add workers, or keep events longer: {longer}",
        )
    elif kept_ms < _DAY_MS:
        yield warning(
            "topic.retention",
            f"the log of {events!r} is short: an engine that stands still for longer loses events",
            "retention.ms of a day or more",
            f"{kept_ms:,}",
            longer,
        )


def _check_clock(facts: BrokerFacts, events: str, now_ms: float) -> Iterator[Finding]:
    ahead_ms = 0.0 if facts.newest_ms is None else facts.newest_ms - now_ms
    if ahead_ms > _AHEAD_MS:
        yield fault(
            "clock.broker",
            f"the newest event of {events!r} was written in the future",
            f"timestamps at most {_AHEAD_MS / 1000:g} s ahead of this machine",
            f"one that is {ahead_ms / 1000:,.1f} s ahead",
            "Let producers, brokers and this machine follow the same time servers",
        )


def _bytes(topic: Topic | None) -> int | None:
    text = (topic.config or {}).get("max.message.bytes", "") if topic is not None else ""
    return int(text) if text.isdigit() else None
