"""docs/metrics.md says what a live engine shows, and nothing else."""

import re

import pytest

from operators.metrics import Metrics
from tests.operations.plant import ROOT, needs_api, samples, until

ROW = re.compile(r"^\| `([a-z_]+)` *\| (\w+) *\|([^|]*)\|([^|]+)\|([^|]+)\|$", re.MULTILINE)


SELDOM = {"afterglow_segment_paused", "afterglow_segment_flips_suppressed_total"}
"""Shown only when a segment has been paused or held back."""


def described(*, api=False):
    """By metric of the page: its type and labels; those of the engine, or of the HTTP API."""
    page = (ROOT / "docs/metrics.md").read_text()
    return {
        name: {"type": kind, "labels": set(re.findall(r"`(\w+)`", labels))}
        for name, kind, labels, _unit, _meaning in ROW.findall(page)
        if name.startswith("afterglow_http_") == api
    }


def test_every_metric_is_described_with_its_type():
    shown = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in Metrics().registry.collect()
    }
    shown = {
        f"{name}_info" if kind == "info" else name: "gauge" if kind == "info" else kind
        for name, kind in shown.items()
    }
    assert {name: row["type"] for name, row in described().items()} == shown


@needs_api
def test_every_metric_of_the_api_is_described():
    from serving.api.metrics import HttpMetrics

    shown = {
        family.name + ("_total" if family.type == "counter" else ""): {
            "type": family.type,
            "labels": set(getattr(collector, "_labelnames", ())),
        }
        for collector in HttpMetrics().registry._collector_to_names
        for family in collector.collect()
    }
    assert described(api=True) == shown


@pytest.mark.servers
@pytest.mark.slow
def test_a_live_engine_shows_what_is_described(running):
    page = {name: row for name, row in described().items() if name not in SELDOM}
    seen = {}

    def all_there():
        for worker in (0, 1):
            for name, found in samples(running.scrape(worker)).items():
                known = seen.setdefault(name, found)
                known["labels"] |= found["labels"]
        return set(seen) >= set(page) and all(
            seen[name]["labels"] == row["labels"] for name, row in page.items()
        )

    until(all_there, 90, lambda: str({k: v for k, v in page.items() if seen.get(k) != v}))
    assert {name: row for name, row in seen.items() if name not in SELDOM} == page


@pytest.mark.servers
@pytest.mark.slow
def test_the_models_measures_are_described(running):
    page = (ROOT / "docs/metrics.md").read_text().partition("Measures of `afterglow_model`")[2]
    until(lambda: 'measure="auc"' in running.scrape(0), 90, running.log)
    shown = set(re.findall(r'^afterglow_model\{measure="(\w+)"', running.scrape(0), re.MULTILINE))
    ranking = {"log_loss", "base_loss"}
    assert shown - ranking <= set(re.findall(r"`(\w+)`", page))
