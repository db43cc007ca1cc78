"""From settings to what the layers below take: rules, plans and specifications."""

from __future__ import annotations

from dataflows.plans.checks import check, check_definitions, check_kafka
from dataflows.plans.engine import (
    commit_policy,
    kafka_config,
    metrics_address,
    patience,
    publisher_terms,
    source_spec,
    topics,
)
from dataflows.plans.items import item_plan, item_rules, recommender
from dataflows.plans.lanes import definition_set, event_rules, lane_plan
from dataflows.plans.models import learner, model_plan

__all__ = [
    "check",
    "check_definitions",
    "check_kafka",
    "commit_policy",
    "definition_set",
    "event_rules",
    "item_plan",
    "item_rules",
    "kafka_config",
    "lane_plan",
    "learner",
    "metrics_address",
    "model_plan",
    "patience",
    "publisher_terms",
    "recommender",
    "source_spec",
    "topics",
]
