"""From the settings of experiments to their plan, and what no setting alone can say of them."""

from __future__ import annotations

from dataflows.sections.items import ExperimentSettings
from dataflows.settings import Settings, SettingsError
from events.schema import TYPES
from models.item_plan import SOURCES
from models.verdicts import judge
from state.experiment_plan import CONTROL, Arm, Experiment, ExperimentsPlan, leave
from state.times import FAR_MS, NEVER_MS


def experiments_plan(settings: Settings) -> ExperimentsPlan:
    """All experiments.

    Raises:
        SettingsError: with the path of what is wrong.
    """
    declared = settings.experiments
    if declared and "impression" not in settings.events.types:
        raise SettingsError(
            "events.types: must have 'impression' in it while there are experiments, because the "
            "first one exposes a user, but it has not"
        )
    by_salt: dict[str, str] = {settings.holdout.salt: "holdout.salt"}
    by_path: dict[str, str] = {}
    for name, chosen in declared.items():
        _check(f"experiments.{name}", chosen)
        salt = chosen.salt or name
        if salt in by_salt:
            raise SettingsError(
                f"experiments.{name}.salt: must be its own, or users fall alike, but {salt!r} is "
                f"that of {by_salt[salt]} too"
            )
        by_salt[salt] = f"experiments.{name}"
        changed = {path for arm in chosen.arms.values() for path in arm.overrides}
        for path in sorted(changed & by_path.keys()):
            raise SettingsError(
                f"experiments.{name}.arms: {path!r} is changed by experiments.{by_path[path]} "
                "already; what comes of either could not be told apart"
            )
        by_path |= dict.fromkeys(changed, name)
    return ExperimentsPlan(
        experiments=tuple(_experiment(name, chosen) for name, chosen in declared.items()),
        holdout=settings.holdout.share,
        holdout_salt=settings.holdout.salt,
        judge=judge if declared else leave,
    )


def _experiment(name: str, chosen: ExperimentSettings) -> Experiment:
    return Experiment(
        name=name,
        arms=tuple(Arm(arm, a.weight, dict(a.overrides)) for arm, a in chosen.arms.items()),
        salt=chosen.salt or name,
        start_ms=NEVER_MS if chosen.start is None else chosen.start,
        stop_ms=FAR_MS if chosen.stop is None else chosen.stop,
        conversion=tuple(TYPES.index(kind) for kind in chosen.conversion),
        window_ms=chosen.window,
        guard_rails=chosen.guard_rails,
        allocation=chosen.allocation,
        alpha=chosen.alpha,
        planned_users=chosen.planned_users,
    )


def _check(path: str, chosen: ExperimentSettings) -> None:
    if CONTROL not in chosen.arms:
        raise SettingsError(
            f"{path}.arms: must have one named {CONTROL!r}, which the others are held against, but "
            f"{', '.join(map(repr, chosen.arms))} came"
        )
    if chosen.start is not None and chosen.stop is not None and chosen.stop <= chosen.start:
        raise SettingsError(f"{path}.stop: must be later than start, but is not")
    for arm, changes in chosen.arms.items():
        for key, value in changes.overrides.items():
            _check_override(f"{path}.arms.{arm}.set", key, value)
    for kind in chosen.conversion:
        if kind not in TYPES:
            raise SettingsError(
                f"{path}.conversion: must be types of event ({', '.join(TYPES)}), but {kind!r} came"
            )


def _check_override(path: str, key: str, value: object) -> None:
    source = key.removeprefix("sources.")
    if source == key or source not in SOURCES:
        raise SettingsError(
            f"{path}: an arm may change what a source of candidates weighs "
            f"({', '.join(f'sources.{name}' for name in SOURCES)}), but {key!r} came"
        )
    if isinstance(value, bool | str) or not isinstance(value, int | float) or value < 0:
        raise SettingsError(f"{path}.{key}: must be a number of 0 or more, but {value!r} came")
