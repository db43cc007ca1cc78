"""From the settings of experiments to their plan, and what no setting alone can say of them."""

from __future__ import annotations

from dataflows.sections import ExperimentSettings
from dataflows.settings import Settings, SettingsError
from events.schema import TYPES
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
    for name, chosen in declared.items():
        _check(f"experiments.{name}", chosen)
        salt = chosen.salt or name
        if salt in by_salt:
            raise SettingsError(
                f"experiments.{name}.salt: must be its own, or users fall alike, but {salt!r} is "
                f"that of {by_salt[salt]} too"
            )
        by_salt[salt] = f"experiments.{name}"
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
    for kind in chosen.conversion:
        if kind not in TYPES:
            raise SettingsError(
                f"{path}.conversion: must be types of event ({', '.join(TYPES)}), but {kind!r} came"
            )
