"""Whether all that settings say can be compiled."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer

from dataflows.plans.engine import kafka_config, patience
from dataflows.plans.items import item_plan
from dataflows.plans.lanes import event_rules, lane_plan
from dataflows.plans.models import learner
from dataflows.settings import Settings, SettingsError
from models.online import OnlineModels, UnknownInput
from state.definition_set import DefinitionSet
from state.definitions import SegmentError
from state.expressions import ExpressionError
from state.lane import Lane
from state.offers import OfferError

_TOPICS: Final = ("events", "dead", "changes", "memberships", "positions", "catalog")
_TOPIC_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NOT_MADE: Final = "Failed to create"
"""How librdkafka begins to say that options do not go together, or name files it cannot read."""


def check(settings: Settings) -> None:
    """Compile everything that settings say, so that what is wrong in it is said at the start.

    Raises:
        SettingsError: with the path of what is wrong.
    """
    _check_topics(settings)
    event_rules(settings)
    patience(settings)
    plan, models = lane_plan(settings), learner(settings, trains=False)
    item_plan(settings)
    _check_labels(settings)
    check_definitions(settings, plan.definitions, models)


def check_kafka(settings: Settings) -> None:
    """Give the Kafka options to clients that know no broker, for whoever will connect.

    Raises:
        SettingsError: librdkafka does not take one of them, or not with the others.
    """
    options = settings.kafka.options
    spoken = str(options.get("security.protocol", "plaintext"))
    if settings.kafka.username and "sasl" not in spoken.lower():
        raise SettingsError(
            "kafka.options.security.protocol: must be SASL_SSL or SASL_PLAINTEXT where there is a "
            f"KAFKA_USERNAME, but {spoken!r} came: nobody would log in"
        )
    for name, value in options.items():
        said = _refusal(Producer, {name: value})
        if said and not said.startswith(_NOT_MADE):  # which other options may mend
            raise SettingsError(f"kafka.options.{name}: {said}")
    config = kafka_config(settings)
    del config["bootstrap.servers"]
    for kind, more in ((Producer, {}), (Consumer, {"group.id": "check"})):
        said = _refusal(kind, {**config, **more}) if options else ""
        if said:
            raise SettingsError(f"kafka.options: {said}")


def _refusal(kind: type[Producer | Consumer], config: dict[str, Any]) -> str:
    """What librdkafka has against a client's options; nothing if it takes them."""
    try:
        kind({"log_level": 2, **config})
    except KafkaException as error:
        return str(error.args[0].str()).strip()
    return ""


def _check_topics(settings: Settings) -> None:
    """Refuse topics that cannot be, and two of one name: each would be taken for the other."""
    held: dict[str, str] = {}
    for role in _TOPICS:
        name = str(getattr(settings.kafka, role))
        if role == "catalog" and not name:
            continue
        if not _TOPIC_NAME.fullmatch(name) or name in (".", ".."):
            raise SettingsError(
                f"kafka.{role}: must be the name of a topic, 1 to 249 letters, digits, '.', '_' "
                f"or '-', but {name[:80]!r} came"
            )
        if name in held:
            raise SettingsError(
                f"kafka.{role}: must be another topic than kafka.{held[name]}, but {name!r} came"
            )
        held[name] = role


def _check_labels(settings: Settings) -> None:
    """Refuse lists of items that tell users apart by a family which there is not."""
    family, known = settings.recommend.segment, settings.families
    if family and family not in known:
        raise SettingsError(
            f"recommend.segment: must be one of the families ({', '.join(known)}), or empty to "
            f"tell nobody apart, but {family!r} came"
        )


def check_definitions(
    settings: Settings, definitions: DefinitionSet, models: OnlineModels | None
) -> None:
    """Compile definitions of segments over what the settings measure, offers and all.

    Raises:
        SettingsError: with the path of what is wrong.
    """
    plan = replace(
        lane_plan(settings), segments=definitions.segments, families=definitions.families
    )
    try:
        Lane(plan, [0], models)
    except UnknownInput as error:
        raise SettingsError(str(error)) from error
    except OfferError as error:
        raise SettingsError(str(error)) from error
    except (SegmentError, ExpressionError) as error:
        raise SettingsError(f"segments: {error}") from error
