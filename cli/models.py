"""``afterglow models``: what has been learned, how well it does, and what it would have said."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from cli.common import UserError, need_redis, wide_console
from cli.letters import Letters
from cli.long_rows import LongRows
from cli.renames import Renames
from dataflows import plans
from dataflows.durations import duration_ms, duration_text
from dataflows.engine import open_store
from dataflows.evaluating import Foretold, Run, evaluate
from dataflows.settings import Settings
from events.row_columns import parse_pairs
from events.rows import read_messages
from models.contract import ModelMismatch
from models.predictor import CHAMPION, Predictor
from models.probabilities import log_losses
from models.progress import area_under_curve
from models.reliability import expected_calibration_error
from models.trainer import Trainer
from state.store import Store

_WIDTH = 120


def list_models(settings: Settings) -> int:
    """One line for each model: what it foretells, by whom, and how well."""
    trainer = _trainer(settings, open_store_of(settings))
    table = _table("model", "foretells", "by")
    for name in ("outcomes", "came true", "AUC", "log-loss", "base"):
        table.add_column(name, justify="right")
    for predictor in trainer.predictors:
        measures = predictor.measures()
        cells = (_shown(measures[n]) for n in ("base_rate", "auc", "log_loss", "base_loss"))
        by = predictor.leader if predictor.is_ready else "nobody yet"
        table.add_row(predictor.task.name, _task_text(predictor), by, f"{predictor.seen:,}", *cells)
    console = wide_console(_WIDTH)
    console.print(table)
    if trainer.clusters is not None:
        shares = trainer.clusters.shares().tolist()
        for place, text in enumerate(trainer.clusters.descriptions()):
            console.print(f"cluster {place}: {shares[place]:.0%} of users; {text}")
    if trainer.worth is not None:
        worth = trainer.worth
        console.print(f"worth, from {worth.buyers:,} buyers: {worth.alive}, {worth.spend}")
    return 0


def show_health(settings: Settings) -> int:
    """Every measure of every model, the shift of every input, and the latest alerts."""
    trainer = _trainer(settings, open_store_of(settings))
    table = _table("model", "measure")
    table.add_column("value", justify="right")
    for model, measures in trainer.quality().items():
        for measure, value in measures.items():
            table.add_row(model, measure, _shown(value))
    console = wide_console(_WIDTH)
    console.print(table)
    for ts_ms, text in trainer.alerts:
        console.print(f"{_time(ts_ms)}  {text}", highlight=False)
    if not trainer.alerts:
        console.print("no alerts")
    return 0


def show_weights(settings: Settings, name: str) -> int:
    """A champion's weights by input, the heaviest first."""
    predictor = _predictor(_trainer(settings, open_store_of(settings)), name)
    means, scales, weights, intercept = predictor.champion.linear
    table = _table("input")
    for column in ("weight", "mean", "deviation"):
        table.add_column(column, justify="right")
    for place in np.argsort(-np.abs(weights), kind="stable").tolist():
        deviation = 1.0 / scales[place] if scales[place] else 0.0
        figures = weights[place], means[place], deviation
        table.add_row(predictor.task.inputs[place], *(f"{figure:.4f}" for figure in figures))
    console = wide_console(_WIDTH)
    console.print(table)
    console.print(f"intercept {intercept:.4f}; weights of inputs in deviations from their mean")
    if predictor.leader != CHAMPION:
        console.print(f"the {predictor.leader} leads now, so these weights are not in use")
    return 0


def export_model(settings: Settings, name: str, out: Path | None) -> int:
    """A model's saved form as JSON."""
    predictor = _predictor(_trainer(settings, open_store_of(settings)), name)
    document = msgspec.json.format(msgspec.json.encode(predictor.champion.to_state())) + b"\n"
    if out is None:
        sys.stdout.buffer.write(document)
    else:
        try:
            out.write_bytes(document)
        except OSError as error:
            raise UserError(f"{out} cannot be written: {error.strerror}") from error
        print(f"{name} written to {out}")
    return 0


def reset_model(settings: Settings, name: str) -> int:
    """Delete a saved model, so that a new one learns from the stream."""
    store = open_store_of(settings)
    state = _state(settings, store)
    if name not in state["tasks"]:
        raise UserError(f"there is no saved model {name!r}; there are {', '.join(state['tasks'])}")
    del state["tasks"][name]
    asked = msgspec.json.decode(store.shared("reset") or b"[]", type=list[str])
    store.share("reset", msgspec.json.encode(sorted({*asked, name})))
    store.share("trainer", msgspec.msgpack.encode(state))
    print(f"{name} is deleted; a new one begins when the engine starts, or in seconds if it runs")
    return 0


def evaluate_file(
    settings: Settings,
    file: Path,
    step: str,
    after: str,
    maps: list[str],
    types: list[str],
) -> int:
    """The prequential run of a log: predict, and learn when the outcome is known; the exit code.

    It is 1 where nothing of the file became an event.
    """
    step_ms, after_ms = _duration_ms("--step", step), _duration_ms("--after", after or "0s")
    if not step_ms:
        raise UserError(f"--step must be longer than nothing, but {step} came")
    columns, renames, long_rows = parse_pairs(maps, "--map"), Renames(types), LongRows(file)
    console = wide_console(_WIDTH)
    quiet = not sys.stderr.isatty()
    with Bar(console=Console(stderr=True), transient=True, disable=quiet) as bar:
        doing = bar.add_task("events", total=None)
        run = evaluate(
            settings,
            file.name,
            read_messages(file, columns, renames, on_lines=long_rows.take),
            step_ms,
            tick=lambda events: bar.update(doing, completed=events),
        )
    renames.warn()
    long_rows.warn()
    letters = Letters(file, run.letters.reasons, run.letters.firsts)
    if letters.total and not run.events:
        return letters.say_none_good()
    console.print(f"{run.events:,} events, {letters.total:,} dead letters")
    if letters.total:
        console.print(letters.told(), highlight=False, markup=False, soft_wrap=True)
    table = _table("model")
    for name in ("moments", "came true", "AUC", "log-loss", "base", "calibration error"):
        table.add_column(name, justify="right")
    for foretold in run.tasks:
        table.add_row(foretold.task.name, *_figures(foretold, after_ms))
    console.print(table)
    for foretold in run.tasks:
        if why := _why_nothing(foretold, run, after_ms):
            console.print(f"{foretold.task.name}: {why}", highlight=False, markup=False)
    return 0


def open_store_of(settings: Settings) -> Store:
    """The store, which must be named."""
    need_redis(settings)
    return open_store(settings)


def _duration_ms(option: str, text: str) -> int:
    try:
        return duration_ms(text)
    except ValueError as error:
        raise UserError(f"{option} {error}, but {text!r} came") from error


def _figures(foretold: Foretold, after_ms: int) -> list[str]:
    """What was said of moments that lie so far after the first one."""
    examples = foretold.examples
    if not len(examples):
        return ["0", *["–"] * 5]
    asked = ~np.isnan(examples.p) & (examples.ts_ms >= examples.ts_ms.min() + after_ms)
    p, y = examples.p[asked].astype(np.float64), examples.y[asked]
    if not len(p):
        return ["0", *["–"] * 5]
    rate = float(y.mean())
    base = float(log_losses(np.full(len(y), rate), y).mean())
    figures = (
        area_under_curve(y, p),
        float(log_losses(p, y).mean()),
        base,
        expected_calibration_error(p, y),
    )
    return [f"{len(p):,}", f"{rate:.3f}", *map(_shown, figures)]


def _why_nothing(foretold: Foretold, run: Run, after_ms: int) -> str:
    """Which condition was not met where nothing was foretold whose outcome is known; else empty."""
    plan, learner = run.learner.plan, run.learner
    known, sampled = len(foretold.examples), len(learner.snapshots)
    task, horizon = foretold.task.name, duration_text(foretold.task.horizon_ms)
    if not known and not sampled and not any(len(other.examples) for other in run.tasks):
        return (
            f"no moment was sampled: models.rate takes {plan.rate:g} of the users in each "
            "models.every. Raise models.rate, or give a longer log"
        )
    if not known:
        return (
            f"no outcome is known: none of the {sampled:,} sampled moments lies {horizon} before "
            f"the end of the log. Give a longer log, or a shorter models.tasks.{task}.horizon"
        )
    told = ~np.isnan(foretold.examples.p)
    if told.any():
        late = foretold.examples.ts_ms[told] >= foretold.examples.ts_ms.min() + after_ms
        return "" if late.any() else "all that was foretold lies before the end of --after"
    if known < plan.least:
        return (
            f"{known:,} outcomes are known, but models.least is {plan.least:,} before anything is "
            "foretold. Give a longer log, raise models.rate, or lower models.least"
        )
    return (
        f"{known:,} outcomes are known, but after the first {plan.least:,} (models.least) no "
        f"moment was sampled that lies {horizon} before the end of the log. Give a longer log, "
        f"or a shorter models.tasks.{task}.horizon"
    )


def _trainer(settings: Settings, store: Store) -> Trainer:
    plan = plans.model_plan(settings)
    if plan is None:
        raise UserError("models.enabled is false: there is nothing that learns")
    try:
        return Trainer.from_state(_state(settings, store), plan)
    except ModelMismatch as error:
        raise UserError(f"{error}. `afterglow models reset NAME` deletes a saved model") from error


def _state(settings: Settings, store: Store) -> dict[str, Any]:
    saved = store.shared("trainer")
    if not saved:
        raise UserError(
            f"nothing has been learned yet under {settings.redis.prefix!r}: outcomes are known "
            "when their horizon has passed (models.tasks.*.horizon)"
        )
    state: dict[str, Any] = msgspec.msgpack.decode(saved)
    return state


def _predictor(trainer: Trainer, name: str) -> Predictor:
    known = {predictor.task.name: predictor for predictor in trainer.predictors}
    if name not in known:
        raise UserError(f"there is no model {name!r}; there are {', '.join(known)}")
    return known[name]


def _task_text(predictor: Predictor) -> str:
    from events.schema import TYPES

    task = predictor.task
    what = " or ".join(TYPES[code] for code in task.outcome) or "anything"
    days = f"{task.horizon_ms / 86_400_000:g} d"
    return f"no {what} in {days}" if task.absent else f"{what} within {days}"


def _shown(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 2 else f"{value:.4f}"


def _time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _table(*names: str) -> Table:
    table = Table()
    for name in names:
        table.add_column(name)
    return table
