"""From settings to what the layers below take: rules, plans and specifications."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dataflows.experiments import experiments_plan
from dataflows.retention import retention_ms
from dataflows.sections.items import RuleSettings
from dataflows.sections.profiles import DecayedFeature, FamilySettings, Segment
from dataflows.settings import Settings, SettingsError
from dataflows.supervisor import Patience
from dataflows.zones import zone
from events.schema import TYPES, EventRules
from models.examples import Examples
from models.item_plan import ItemPlan
from models.online import OnlineModels, UnknownInput
from models.plan import MOST_TASKS, Challenging, Clustering, Learning, ModelPlan, Task, Valuing
from models.recommender import ItemRecommender
from models.rules import Boost, Pin, Rule, RuleError
from models.ruling import Rules
from operators.courier import Terms
from operators.lane_step import CommitPolicy
from operators.source import SourceSpec
from operators.topics import Topics
from state.declared import DecayedSpec, PanesSpec
from state.definition_set import DefinitionSet
from state.definitions import FamilySpec, Guard, SegmentError, SegmentSpec
from state.expressions import ExpressionError
from state.filters import EventFilter
from state.lane import Lane
from state.offers import OfferError, OfferSpec
from state.plan import LanePlan
from state.rfm import Cuts, RfmSpec
from state.times import FAR_MS, NEVER_MS

_TAKEN: Final = frozenset(
    (
        *("v", "user_id", "as_of", "commit", "changes", "first_seen", "last_seen", "last_order"),
        *("returned_at", "lifetime", "window", "decayed", "rfm", "session", "cart", "segments"),
        *("scores", "offers", "experiment", "consent", "attributes"),
    )
)
"""Names in a profile that a declared feature would hide."""

_SCORES: Final = frozenset(
    ("alive", "expected_orders", "expected_spend", "cluster", "valid_to", "inputs", "parked")
)
"""Names of scores and measures that are taken."""


def event_rules(settings: Settings) -> EventRules:
    """What an event may be."""
    chosen = settings.events
    _check_types("events.types", chosen.types)
    return EventRules(
        types=frozenset(chosen.types),
        currency=chosen.currency,
        minor_digits=chosen.minor_digits,
        max_ahead_ms=chosen.max_ahead,
        max_age_ms=chosen.max_age,
        max_bytes=chosen.max_bytes,
    )


def lane_plan(settings: Settings) -> LanePlan:
    """What a lane measures and decides."""
    lane, dedup = settings.lane, settings.dedup
    definitions = definition_set(settings.segments, settings.families)
    decayed, panes = _features(settings)
    return LanePlan(
        shards=settings.redis.shards,
        rfm=_rfm(settings),
        decayed=decayed,
        panes=panes,
        segments=definitions.segments,
        families=definitions.families,
        offers=_offers(settings),
        max_offers=settings.offer_rules.max_offers,
        lateness_ms=lane.lateness,
        wall_delay_ms=lane.wall_delay,
        session_gap_ms=settings.session.gap,
        return_gap_ms=settings.session.return_gap,
        order_keep_ms=settings.orders.keep or 0,
        cart_ttl_ms=settings.cart.ttl,
        cart_lines=settings.cart.max_lines,
        # an event that is ahead of its log moves the window; it must not cut it short for others
        dedup_window_ms=dedup.window + settings.events.max_ahead,
        dedup_cap=dedup.cap,
        cuts_every_ms=settings.rfm.cuts_every,
        timer_step_ms=lane.timer_step,
        timer_budget=lane.timer_budget,
        poll_ms=lane.poll,
        zone=zone(settings.context.timezone),
        experiments=experiments_plan(settings),
        retention_ms=retention_ms(settings),
        retention_every_ms=settings.retention.every,
        retention_rows=settings.retention.at_once,
    )


def definition_set(
    segments: Mapping[str, Segment], families: Mapping[str, FamilySettings]
) -> DefinitionSet:
    """Definitions of segments as the layers below take them."""
    return DefinitionSet(
        [
            SegmentSpec(
                name, s.enter, s.exit, s.min_dwell, s.cooldown, s.version, s.max_flips, _guard(s)
            )
            for name, s in segments.items()
        ],
        [
            FamilySpec(name, list(f.labels.items()), f.version, _guard(f))
            for name, f in families.items()
        ],
    )


def _guard(chosen: Segment | FamilySettings) -> Guard | None:
    guard = chosen.guard
    return None if guard is None else Guard(guard.share, guard.within, guard.least)


def model_plan(settings: Settings) -> ModelPlan | None:
    """What models foretell and learn from, unless they are switched off."""
    chosen = settings.models
    if not chosen.enabled:
        return None
    learning = Learning(**chosen.learning.model_dump())
    tasks = []
    for name, task in chosen.tasks.items():
        _check_types(f"models.tasks.{name}.outcome", task.outcome)
        if not task.enabled:
            continue
        _check_task(name, task.horizon, chosen.every)
        tasks.append(
            Task(
                name=name,
                inputs=task.inputs or chosen.inputs,
                horizon_ms=task.horizon,
                outcome=_codes(task.outcome),
                absent=task.absent,
                negatives=task.negatives,
                learning=learning,
            )
        )
    _check_types("models.at", chosen.at)
    if len(tasks) > MOST_TASKS:
        raise SettingsError(f"models.tasks: at most {MOST_TASKS} may be on, but {len(tasks)} are")
    return ModelPlan(
        tasks=tuple(tasks),
        every_ms=chosen.every,
        rate=chosen.rate,
        at=_codes(chosen.at),
        parked_max=chosen.parked_max,
        least=chosen.least,
        window=chosen.window,
        validity_ms=chosen.validity,
        poll_ms=settings.lane.poll,
        challenging=_challenging(settings),
        clustering=_clustering(settings),
        valuing=_valuing(settings),
    )


def learner(
    settings: Settings,
    *,
    trains: bool,
    at_once: bool = False,
    listen: Callable[[Examples], None] = lambda _examples: None,
) -> OnlineModels | None:
    """The models of a lane, unless they are switched off.

    Args:
        settings: in force.
        trains: whether this lane is the one that learns.
        at_once: whether it learns in memory what its own snapshots come to, as in a replay.
        listen: gets examples just before they are learned.
    """
    plan = model_plan(settings)
    if plan is None:
        return None
    return OnlineModels(plan, trains=trains, at_once=at_once, listen=listen)


def item_plan(settings: Settings) -> ItemPlan | None:
    """How items are learned and lists are made, unless that is switched off."""
    chosen = settings.recommend
    if not chosen.enabled:
        return None
    _check_types("recommend.weights", chosen.weights)
    return ItemPlan(
        weights={TYPES.index(name): weight for name, weight in chosen.weights.items()},
        half_life_ms=chosen.half_life,
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
    )


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


def _check_task(name: str, horizon_ms: int, every_ms: int) -> None:
    if name in _SCORES:
        raise SettingsError(f"models.tasks.{name}: the profile has this score already; rename it")
    if horizon_ms < every_ms:
        raise SettingsError(
            f"models.tasks.{name}.horizon: must be at least models.every ({every_ms} ms), so that "
            f"a user is sampled once in that time, but {horizon_ms} ms came"
        )


def _challenging(settings: Settings) -> Challenging | None:
    chosen = settings.models.challengers
    if not chosen.kinds:
        return None
    return Challenging(chosen.kinds, chosen.rate, chosen.least, settings.models.seed)


def _clustering(settings: Settings) -> Clustering | None:
    models = settings.models
    chosen = models.clusters
    if not chosen.enabled:
        return None
    inputs = chosen.inputs or models.inputs
    return Clustering("cluster", inputs, chosen.k, chosen.refit, models.seed)


def _valuing(settings: Settings) -> Valuing | None:
    chosen = settings.models.value
    return Valuing(chosen.horizon, chosen.refit, chosen.least) if chosen.enabled else None


def _codes(types: Sequence[str]) -> tuple[int, ...]:
    return tuple(TYPES.index(name) for name in types)


def commit_policy(settings: Settings) -> CommitPolicy:
    """When lanes commit."""
    lane = settings.lane
    return CommitPolicy(lane.commit_events, lane.commit_delay / 1000, lane.heartbeat / 1000)


def source_spec(settings: Settings) -> SourceSpec:
    """How the log is read."""
    kafka = settings.kafka
    return SourceSpec(topic=kafka.events, group=kafka.group, fetch_max=kafka.fetch_max)


def topics(settings: Settings) -> Topics:
    """The topics that the engine writes."""
    kafka = settings.kafka
    return Topics(kafka.changes, kafka.memberships, kafka.positions, kafka.dead, kafka.catalog)


def publisher_terms(settings: Settings, *, has_transactions: bool) -> Terms:
    """How changes are published; the publisher's name is that of the data."""
    kafka = settings.kafka
    named = has_transactions and kafka.transactions
    name = f"{kafka.group}-{settings.redis.prefix}-publisher" if named else ""
    return Terms(topics(settings), name, waiting=kafka.unpublished)


def patience(settings: Settings) -> Patience:
    """How long the supervisor waits for what."""
    chosen = settings.supervisor
    if chosen.watchdog <= settings.redis.give_up:
        raise SettingsError(
            f"supervisor.watchdog: must be longer than redis.give_up ({settings.redis.give_up} "
            f"ms), because a worker that waits for the store is silent, but {chosen.watchdog} ms "
            "came"
        )
    return Patience(
        start_s=chosen.start / 1000,
        watchdog_s=chosen.watchdog / 1000,
        drain_s=chosen.drain / 1000,
        failures=chosen.failures,
        steady_s=chosen.steady / 1000,
    )


def metrics_address(settings: Settings, worker: int) -> str:
    """Where one of several workers on a machine serves its metrics: each a port above the last."""
    if not settings.metrics.address:
        return ""
    host, _, port = settings.metrics.address.rpartition(":")
    return f"{host}:{int(port) + worker}"


def kafka_config(settings: Settings) -> dict[str, Any]:
    """What every Kafka client is given."""
    kafka = settings.kafka
    config: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap, **kafka.options}
    if kafka.username:
        config |= {
            "sasl.username": kafka.username,
            "sasl.password": kafka.password.get_secret_value(),
        }
    return config


def _rfm(settings: Settings) -> RfmSpec:
    rfm = settings.rfm
    fixed = None
    if rfm.cuts is not None:
        cuts = rfm.cuts
        fixed = Cuts(1, 0, cuts.recency_days, cuts.frequency, cuts.monetary)
    return RfmSpec(rfm.basis, rfm.half_life, rfm.window, rfm.ties, fixed)


def _offers(settings: Settings) -> list[OfferSpec]:
    return [
        OfferSpec(
            name=name,
            when=offer.when,
            lasts_ms=offer.lasts,
            priority=offer.priority,
            cap=offer.cap,
            cap_window_ms=offer.cap_window,
            cooldown_ms=offer.cooldown,
            exclusive=offer.exclusive,
            value=offer.value,
        )
        for name, offer in settings.offers.items()
        if offer.enabled
    ]


def _features(settings: Settings) -> tuple[list[DecayedSpec], list[PanesSpec]]:
    decayed, panes = [], []
    for name, spec in settings.features.items():
        if name in _TAKEN:
            raise SettingsError(f"features.{name}: the profile has {name!r} already; rename it")
        _check_filter(f"features.{name}.where", spec.where)
        if isinstance(spec, DecayedFeature):
            _check_types(f"features.{name}.weights", spec.weights)
            decayed.append(DecayedSpec(name, spec.half_life, spec.weights, spec.where))
            continue
        _check_types(f"features.{name}.types", spec.types)
        if spec.window % spec.panes:
            raise SettingsError(
                f"features.{name}.panes: must divide the window of {spec.window} ms evenly, but "
                f"{spec.panes} came"
            )
        panes.append(PanesSpec(name, spec.window, spec.panes, spec.types, spec.where))
    return decayed, panes


def _check_types(path: str, names: Any) -> None:
    for name in names:
        if name not in TYPES:
            raise SettingsError(
                f"{path}: must be types of event ({', '.join(TYPES)}), but {name!r} came"
            )


def _check_filter(path: str, where: str) -> None:
    try:
        EventFilter(where)
    except ExpressionError as error:
        raise SettingsError(f"{path}: {error}") from error


def check(settings: Settings) -> None:
    """Compile everything that settings say, so that what is wrong in it is said at the start.

    Raises:
        SettingsError: with the path of what is wrong.
    """
    event_rules(settings)
    patience(settings)
    plan, models = lane_plan(settings), learner(settings, trains=False)
    item_plan(settings)
    check_definitions(settings, plan.definitions, models)


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
