"""Every panel's query is run on a real Prometheus that scrapes a live engine."""

import importlib.util
import json
import re
import sys
import time
from urllib.request import urlopen

import pytest
import yaml

from tests.operations.plant import ROOT, needs_prometheus, until

FOLDER = ROOT / "deploy/grafana"
EMPTY_HERE = {
    "Inputs that have moved (PSI)": "needs more samples than a short run has",
    "Followers cut off": "nobody was",
}
"""Panels that may have nothing to show, and why; all others must."""
UNLABELLED = {"Catalogue messages": "an empty reason, that is no label, means taken"}


def builder():
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["build"] = module
    spec.loader.exec_module(module)
    return module


def dashboards():
    return [json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))]


PANELS = [
    pytest.param(panel, id=f"{board['uid']}: {panel['title']}")
    for board in dashboards()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def test_files_are_what_the_builder_writes():
    module = builder()
    written = {f"{board.uid}.json": module.written(board) for board in module.ALL}
    held = {path.name: path.read_text() for path in (FOLDER / "dashboards").glob("*.json")}
    assert held == written


def test_panels_lie_beside_each_other():
    for board in dashboards():
        taken = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (place["x"] + dx, place["y"] + dy)
                for dx in range(place["w"])
                for dy in range(place["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)


def test_provisioning_leads_to_the_dashboards():
    folder = FOLDER / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((folder / "dashboards/afterglow.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in compose["volumes"]}
    assert mounted[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    assert mounted["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.prometheus
@needs_prometheus
@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_data(running, panel):
    if "afterglow-serving" in panel["targets"][0]["expr"]:
        if running.api_port is None:
            pytest.skip("the HTTP API is not there")
        with urlopen(f"http://127.0.0.1:{running.api_port}/health"):
            pass
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", "30s")

        def answer(query=query):
            result = running.ask("query", query=query)["result"]
            return [row for row in result if row["value"][1] != "NaN"]

        if panel["title"] in EMPTY_HERE:
            assert running.ask("query", query=query)["resultType"] == "vector"
            continue
        found = until(answer, 60, lambda query=query: query)
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            labelled = any(label in row["metric"] for row in found)
            assert labelled or panel["title"] in UNLABELLED, (target["legendFormat"], query)


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.prometheus
@needs_prometheus
def test_alerts_are_loaded_and_quiet(running):
    """On a plant that works no alert of severity critical is up."""
    time.sleep(2)
    groups = running.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
    critical = {rule["name"] for rule in rules if rule["labels"]["severity"] == "critical"}
    assert not critical & set(firing)
