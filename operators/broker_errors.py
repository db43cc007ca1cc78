"""What errors of a broker mean, and what to say of them.

A client tells only a callback why it does not reach a broker, and whoever asked it gets to know
that there was no answer. So those who end by that ask once more, and listen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

_MOVING: Final = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
_FORBIDDEN: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
"""Not that of groups: nothing here joins one, and who reads does not need it."""
_LOGIN: Final = KafkaError._AUTHENTICATION
_TLS: Final = KafkaError._SSL
_UNREACHED: Final = (KafkaError._RESOLVE, KafkaError._TRANSPORT)
_LISTEN_S: Final = 2.0

RIGHTS: Final = "Give this user the rights that docs/operations.md lists for the broker"
"""Advice."""


class SourceError(Exception):
    """The log cannot be read as it must be; the message says the way on."""


class BrokerSilent(SourceError):
    """The broker does not answer; it may later."""


def will_pass(error: KafkaException) -> bool:
    """Whether the broker may say otherwise in a moment: leaders are being found."""
    return bool(error.args[0].retriable() or error.args[0].code() in _MOVING)


def is_forbidden(error: KafkaError) -> bool:
    """Whether the broker knows this user, and does not allow it what was asked."""
    return error.code() in _FORBIDDEN


def silent(error: KafkaException, config: Mapping[str, Any]) -> BrokerSilent:
    """What to raise when no broker answers to a client of this configuration."""
    return BrokerSilent(unanswered(error.args[0], config["bootstrap.servers"], heard(config)))


def heard(config: Mapping[str, Any]) -> list[KafkaError]:
    """What keeps a client of this configuration from its brokers; nothing if they answer."""
    errors: list[KafkaError] = []
    listening: dict[str, Any] = {"log_level": 2, "error_cb": errors.append}
    admin = AdminClient({**config, **listening})
    with suppress(KafkaException):
        admin.list_topics(timeout=_LISTEN_S)
    admin.poll(0)
    return errors


def unanswered(error: KafkaError, address: str, heard: Iterable[KafkaError] = ()) -> str:
    """What to say when no broker answers.

    Args:
        error: what the client says.
        address: that was tried, as in ``bootstrap.servers``; what may stand before an ``@`` is no
            part of it, and stays unsaid.
        heard: what stands between.
    """
    tried = ", ".join(place.strip().rpartition("@")[2] for place in address.split(","))
    where = f" at {tried}" if tried else ""
    reasons = {} if "@" in address else {each.code(): each.str() for each in reversed(list(heard))}
    if is_forbidden(error):
        return f"the broker{where} refuses: {error.str()}. {RIGHTS}"
    if _LOGIN in reasons:
        return (
            f"the broker{where} does not let this user in: {reasons[_LOGIN]}. Check "
            "KAFKA_USERNAME, KAFKA_PASSWORD and kafka.options"
        )
    if _TLS in reasons:
        return (
            f"there is no secure connection to the broker{where}: {reasons[_TLS]}. Check the "
            "options in kafka.options that begin with ssl"
        )
    why = next((reasons[code] for code in _UNREACHED if code in reasons), "")
    if not why and KafkaError._ALL_BROKERS_DOWN in reasons:
        return (
            f"the server{where} takes connections and ends them. It may want TLS or a login: "
            "check security.protocol in kafka.options, and KAFKA_BOOTSTRAP"
        )
    why = why or error.str()
    return f"the broker does not answer: {why}. Check KAFKA_BOOTSTRAP and that one runs{where}"
