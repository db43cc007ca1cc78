"""How items are learned, the rules over them, and the recommender of a lane."""

from __future__ import annotations

from collections.abc import Mapping

from dataflows.plans.types import check_types
from dataflows.sections.items import ExperimentSettings, RuleSettings
from dataflows.settings import Settings, SettingsError
from events.schema import TYPES
from models.item_plan import ItemPlan
from models.recommender import ItemRecommender
from models.rules import Boost, Pin, Rule, RuleError
from models.ruling import Rules
from state.times import FAR_MS, NEVER_MS


def item_plan(settings: Settings) -> ItemPlan | None:
    """How items are learned and lists are made, unless that is switched off."""
    chosen = settings.recommend
    if not chosen.enabled:
        return None
    check_types("recommend.weights", chosen.weights)
    return ItemPlan(
        weights={TYPES.index(name): weight for name, weight in chosen.weights.items()},
        half_life_ms=chosen.half_life,
        trend_ms=chosen.trend,
        steps=chosen.steps,
        gap_ms=chosen.gap,
        backward=chosen.backward,
        neighbours=chosen.neighbours,
        together=chosen.together,
        basket_ms=chosen.basket,
        recent=chosen.recent,
        bought=chosen.bought,
        bought_ms=chosen.not_again,
        looks_back=chosen.looks_back,
        fade=chosen.fade,
        damping=chosen.damping,
        sources=chosen.sources.model_dump(),
        rank_offset=chosen.rank_offset,
        length=chosen.length,
        segment=chosen.segment,
        per_category=chosen.per_category,
        most_items=chosen.most_items,
        validity_ms=chosen.validity,
        lists_per_s=chosen.lists_per_s,
        exchange_ms=chosen.exchange,
        adaptive=chosen.adaptive,
        ranked=chosen.ranked,
        click_ms=chosen.click_window,
        rank_least=chosen.rank_least,
        rules=item_rules(chosen.rules),
        session_count=chosen.session_count,
        session_sample=chosen.session_sample,
        session_neighbours=chosen.session_neighbours,
        tried=_tried(settings.experiments),
    )


def _tried(experiments: Mapping[str, ExperimentSettings]) -> frozenset[str]:
    """Sources that some arm gives a weight."""
    arms = [arm for experiment in experiments.values() for arm in experiment.arms.values()]
    weights = {path: value for arm in arms for path, value in arm.overrides.items() if value}
    return frozenset(path.removeprefix("sources.") for path in weights)


def item_rules(
    chosen: Mapping[str, RuleSettings], path: str = "recommend.rules"
) -> dict[str, Rule]:
    """The shop's rules over what is recommended, all of which mean something."""
    rules = {
        name: Rule(
            exclude=rule.exclude,
            boost=None if rule.boost is None else Boost(rule.boost.when, rule.boost.factor),
            pin=None if rule.pin is None else Pin(rule.pin.items, rule.pin.place),
            valid_from=NEVER_MS if rule.valid_from is None else rule.valid_from,
            valid_to=FAR_MS if rule.valid_to is None else rule.valid_to,
        )
        for name, rule in chosen.items()
    }
    for name, rule in rules.items():
        if rule.valid_from >= rule.valid_to:
            raise SettingsError(
                f"{path}.{name}.valid_to: must be later than valid_from, or the rule never holds"
            )
    try:
        Rules(rules)
    except RuleError as error:
        raise SettingsError(f"{path}.{error}") from error
    return rules


def recommender(settings: Settings, *, keeps: bool, shares: bool = True) -> ItemRecommender | None:
    """The recommender of a lane, unless it is switched off.

    Args:
        settings: in force.
        keeps: whether this lane is the one that stores the items.
        shares: whether interactions are exchanged through the store.
    """
    plan = item_plan(settings)
    return None if plan is None else ItemRecommender(plan, keeps=keeps, shares=shares)
