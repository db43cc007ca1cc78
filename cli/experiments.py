"""``afterglow experiments``: every arm against control, as of the shards' last commits."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

import msgspec
from rich.table import Table

from cli.common import UserError, need_redis, wide_console
from dataflows.engine import open_store
from dataflows.experiments import experiments_plan
from dataflows.settings import Settings
from models.verdicts import CONVERSION, ArmReport, Report, report
from state.experiment_plan import ExperimentsPlan, Ruling, decode_rulings
from state.experiments import Experiments
from state.store import Store
from state.totals import sum_totals

_WIDTH: Final = 140


def show_experiments(settings: Settings, json: bool) -> int:
    """One table for each experiment, or all as JSON."""
    need_redis(settings)
    plan = experiments_plan(settings)
    if not plan.experiments:
        raise UserError(
            "there are no experiments: declare one under [experiments.NAME], see afterglow.toml"
        )
    store = open_store(settings)
    try:
        reports = _reports(plan, store)
    finally:
        store.close()
    if json:
        print(msgspec.json.encode([_plain(each) for each in reports]).decode())
        return 0
    console = wide_console(_WIDTH)
    for each, experiment in zip(reports, plan.experiments, strict=True):
        console.print(_table(each, settings, experiment.alpha))
        if each.verdict:
            console.print(f"{each.name}: {each.verdict}")
    return 0


def _reports(plan: ExperimentsPlan, store: Store) -> list[Report]:
    fields = Experiments(plan, store.shards).fields
    rulings = decode_rulings(store.shared("experiments"))
    stored = store.record_fields(fields)
    return [
        report(
            experiment,
            sum_totals((record[place] for record in stored), len(experiment.arms)),
            rulings.get(plan.keys[place], Ruling()),
        )
        for place, experiment in enumerate(plan.experiments)
    ]


def _table(found: Report, settings: Settings, alpha: float) -> Table:
    level = f"{1 - alpha:.0%}"
    title = f"{found.name}: conversions, with {level} confidence sequences"
    table = Table(title=title, title_justify="left")
    table.add_column("arm")
    money = f"{settings.events.currency} each"
    for name in ("new users", "exposed", "rate", "lift", "from", "to", "p", money, "clicks each"):
        table.add_column(name, justify="right")
    table.add_column("verdict", no_wrap=True)
    for arm in found.arms:
        table.add_row(arm.name, f"{arm.weight:.0%}", *_cells(arm, settings), arm.verdict)
    return table


def _cells(arm: ArmReport, settings: Settings) -> list[str]:
    totals, users = arm.totals, max(arm.totals.users, 1)
    each = totals.revenue / users / 10**settings.events.minor_digits
    rest = f"{each:,.2f}", f"{totals.clicks / users:.2f}"
    rate = f"{totals.conversions / users:.2%}"
    found = arm.comparisons.get(CONVERSION)
    if found is None:
        return [f"{totals.users:,}", rate, *[""] * 4, *rest]
    base = found.base or math.nan
    lifts = (_percent(value) for value in (found.lift, found.low / base, found.high / base))
    return [f"{totals.users:,}", rate, *lifts, f"{found.p:.4f}", *rest]


def _percent(value: float) -> str:
    return f"{value:+.1%}" if math.isfinite(value) else "–"


def _plain(found: Report) -> dict[str, Any]:
    """As JSON; what is not known is null."""
    arms = []
    for arm in found.arms:
        compared = {
            name: {k: v if math.isfinite(v) else None for k, v in asdict(each).items()}
            | {"lift": each.lift if math.isfinite(each.lift) else None}
            for name, each in arm.comparisons.items()
        }
        arms.append(
            {
                "arm": arm.name,
                "weight": arm.weight,
                **asdict(arm.totals),
                "compared": compared,
                "verdict": arm.verdict,
            }
        )
    return {
        "experiment": found.name,
        "arms": arms,
        "sample_ratio_p": found.sample_ratio_p,
        "verdict": found.verdict,
    }
