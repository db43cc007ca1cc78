"""``python -m loadtest.evaluate``: figures in ``docs``, one table after another."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from dataflows.evaluating import evaluate
from loadtest.evaluate import (
    buyers,
    challengers,
    clusters,
    cost,
    drift,
    experiments,
    lanes,
    policies,
    predictions,
)
from loadtest.evaluate.logs import CDNOW, DATA, DAY_MS, JOURNEY
from loadtest.evaluate.predictions import Quality
from loadtest.evaluate.recommend import cost as list_cost
from loadtest.evaluate.recommend import shown
from loadtest.evaluate.recommend.contests import ENGINE, PUBLISHED, contests
from loadtest.evaluate.recommend.contests import shared as contests_of_lanes
from loadtest.evaluate.recommend.measures import Lists

_CONSOLE: Final = Console(width=120)


def main() -> None:
    """Run the parts that were asked for, all if none was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    chosen = parser.parse_args().parts or PARTS
    if not DATA.is_dir():
        raise SystemExit(f"the real logs are needed in {DATA}, but there is no such folder")
    for part in chosen:
        PARTS[part]()


def foretold() -> None:
    """Predict, then learn, on both logs."""
    for log in (CDNOW, JOURNEY):
        run = evaluate(log.load(), log.name, log.messages(), DAY_MS)
        for each in run.tasks:
            title = f"{log.name}: {each.task.name}"
            _qualities(title, predictions.compared(each, log.first_scored_day))


def merged() -> None:
    """Several lanes beside one."""
    _qualities("cdnow: lanes that learn together", lanes.compared(CDNOW))


def contested() -> None:
    """Challengers on a tenth of the examples."""
    table = _table("challengers: mean log-loss below the champion's", "task", "examples")
    for name in ("tree", "forest", "leader"):
        table.add_column(name, justify="right")
    for log in (CDNOW, JOURNEY):
        for each in challengers.contested(log):
            leads = [f"{each.leads[name]:+.4f}" for name in ("tree", "forest")]
            table.add_row(f"{log.name}: {each.task}", str(each.examples), *leads, each.leader)
    _CONSOLE.print(table)


def worth() -> None:
    """BG/NBD and Gamma-Gamma on the CDNOW sample."""
    found = buyers.read(DATA / f"{CDNOW.name}.csv.gz")
    model, likelihood, spend = buyers.fitted(found)
    _CONSOLE.print(f"BG/NBD fitted     {model}, log-likelihood {likelihood:,.2f}")
    _CONSOLE.print(f"BG/NBD published  {buyers.PUBLISHED}, log-likelihood -9,582.43")
    _CONSOLE.print(f"Gamma-Gamma       {spend}")
    table = _table("purchases in the 39 weeks after", "way")
    for name in ("correlation", "mean absolute error", "in all"):
        table.add_column(name, justify="right")
    for row in buyers.foretold(found, model):
        table.add_row(row.way, f"{row.correlation:.3f}", f"{row.error:.3f}", f"{row.total:,.0f}")
    _CONSOLE.print(table)


def grouped() -> None:
    """Clusters beside batch k-means and River's."""
    table = _table("adjusted Rand index on seeded blobs", "seed")
    for name in ("clusters", "batch k-means", "River's"):
        table.add_column(name, justify="right")
    rows = clusters.compare(range(10))
    for row in rows:
        table.add_row(str(row.seed), *(f"{v:.3f}" for v in (row.ours, row.batch, row.river)))
    means = [float(np.mean([getattr(row, n) for row in rows])) for n in ("ours", "batch", "river")]
    table.add_row("mean", *(f"{mean:.3f}" for mean in means))
    _CONSOLE.print(table)


def watched() -> None:
    """How soon changes are seen."""
    table = _table("labels until it is seen, 20 seeds", "what")
    for name in ("median", "most", "missed"):
        table.add_column(name, justify="right")
    for found in (drift.seen(), drift.rolled_back()):
        known = [label for label in found.labels if label is not None]
        missed = len(found.labels) - len(known)
        table.add_row(found.what, f"{statistics.median(known):.0f}", f"{max(known)}", f"{missed}")
    _CONSOLE.print(table)
    _CONSOLE.print(f"false alarms in 10 streams of 100,000 calm labels: {drift.false_alarms()}")


def costs() -> None:
    """What models cost."""
    table = _table("CPU seconds of models per million events", "log", "events", "learned")
    for name in ("park and flag", "mature and learn", "in all", "median"):
        table.add_column(name, justify="right")
    for log in (CDNOW, JOURNEY):
        found, median = cost.of_log(log)
        steps = found.seconds["observe"], found.seconds["mature"], found.total, median
        counts = f"{found.events:,}", f"{found.learned:,}"
        table.add_row(log.name, *counts, *(f"{seconds:.2f}" for seconds in steps))
    _CONSOLE.print(table)
    scoring = cost.of_scoring()
    for name, micros in scoring.items():
        _CONSOLE.print(f"{name}: {micros:.2f} µs of CPU per user scored")


def tried() -> None:
    """Experiments without and with a difference, and one policy judged from another one's log."""
    table = _table("A/A: runs that found a difference at some look", "looks")
    for name in ("runs", "sequential", "fixed size", "fixed, at its end", "sizes called a fault"):
        table.add_column(name, justify="right")
    for every in (20, 200):
        row = experiments.without_difference(every=every)
        found = (row.sequential, row.fixed, row.at_end, row.ratio)
        cells = (f"{count / row.runs:.1%}" for count in found)
        table.add_row(f"{row.looks:,}", f"{row.runs:,}", *cells)
    _CONSOLE.print(table)
    table = _table("A/B: exposed users until the difference was found", "true lift")
    for name in ("runs", "found", "median", "most", "fixed size, 80 % power"):
        table.add_column(name, justify="right")
    for each in experiments.with_difference():
        users = f"{each.median:,.0f}", f"{each.most:,}", f"{each.fixed:,}"
        table.add_row(f"{each.lift:+.0%}", str(each.runs), str(each.found), *users)
    _CONSOLE.print(table)
    lived = experiments.through_the_engine()
    _CONSOLE.print(
        f"through the engine, a lift of 20 %: {lived.events:,} events, {lived.exposed:,} users "
        f"exposed; called better after {lived.users or 0:,}"
    )
    for what, micros in experiments.costs().items():
        _CONSOLE.print(f"{what}: {micros:.2f} µs of CPU")
    for policy in policies.judged(DATA / "open_bandit_small.csv.gz"):
        title = f"{policy.campaign}: click rate of the policy {policy.policy!r}"
        table = _table(title, "from")
        for name in ("rate", "from", "to", "rows that count", "agrees"):
            table.add_column(name, justify="right")
        for name, found_ in {"its own log": policy.own, **policy.estimates}.items():
            rates = (f"{value:.2%}" for value in (found_.value, found_.low, found_.high))
            agrees = "" if found_ is policy.own else "yes" if policy.agrees(name) else "no"
            table.add_row(name, *rates, f"{found_.effective:,.0f}", agrees)
        _CONSOLE.print(table)


def recommended() -> None:
    """Lists of recommendations, beside those of others."""
    for title, run in contests(ENGINE):
        try:
            _lists(title, run())
        except FileNotFoundError as error:
            raise SystemExit(str(error)) from error
    figures = f"hit rate {PUBLISHED['hit_rate']}, MRR {PUBLISHED['mrr']}"
    _CONSOLE.print(f"VMIS-kNN published: {figures}, {PUBLISHED['lists']} lists")


def shared() -> None:
    """Lists by several lanes beside one."""
    _lists("lanes that exchange once a minute", contests_of_lanes())


def ranked() -> None:
    """What ranking by impressions is worth where the truth is known."""
    table = _table("a made-up shop: clicks per item shown", "steps")
    for name in ("not ranked", "ranked", "AUC", "AUC of the fused score"):
        table.add_column(name, justify="right")
    pairs = zip(shown.periods(ranked=False), shown.periods(ranked=True), strict=True)
    for place, (plain, own) in enumerate(pairs, 1):
        aucs = ("" if auc is None else f"{auc:.3f}" for auc in (own.auc, own.fused_auc))
        table.add_row(f"to {50 * place}", f"{plain.clicks:.4f}", f"{own.clicks:.4f}", *aucs)
    _CONSOLE.print(table)


def listed() -> None:
    """What items and lists cost."""
    table = _table("CPU microseconds of items and lists", "events in a batch")
    for name in ("learn, an event", "find, a list", "write, a list", "lists an event", "B an item"):
        table.add_column(name, justify="right")
    for rows, batches in ((5_000, 100), (200, 500)):
        found = list_cost.measured(rows, batches)
        costs = (f"{us:.2f}" for us in (found.learn_us, found.gather_us, found.write_us))
        table.add_row(f"{rows:,}", *costs, f"{found.lists:.2f}", f"{found.item_bytes:,.0f}")
    _CONSOLE.print(table)


def _lists(title: str, found: Iterable[Lists]) -> None:
    table = _table(f"{title} (20 in a list)", "recommender", "counts")
    for name in ("lists", "hit rate", "MRR", "recall", "coverage", "µs a list", "µs an event"):
        table.add_column(name, justify="right")
    for row in found:
        figures = row.hit_rate, row.mrr, row.recall, row.coverage
        costs = f"{row.list_us:,.0f}", f"{row.event_us:.1f}"
        cells = f"{len(row.ranks):,}", *(f"{value:.4f}" for value in figures), *costs
        table.add_row(row.rival, row.convention, *cells)
    _CONSOLE.print(table)


def _qualities(title: str, found: Iterable[Quality]) -> None:
    table = _table(title, "learner")
    for name in ("moments", "came true", "AUC", "log-loss", "calibration error"):
        table.add_column(name, justify="right")
    for row in found:
        figures = row.auc, row.log_loss, row.calibration_error
        cells = (f"{row.count:,}", f"{row.rate:.3f}", *(f"{value:.4f}" for value in figures))
        table.add_row(row.learner, *cells)
    _CONSOLE.print(table)


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name)
    return table


PARTS: Final[dict[str, Callable[[], None]]] = {
    "predictions": foretold,
    "lanes": merged,
    "challengers": contested,
    "worth": worth,
    "clusters": grouped,
    "drift": watched,
    "cost": costs,
    "experiments": tried,
    "recommend": recommended,
    "sharing": shared,
    "ranking": ranked,
    "lists": listed,
}

if __name__ == "__main__":
    main()
