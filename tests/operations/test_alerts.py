"""Every alert fires when it must, stays quiet when it must, and says what to do."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests.operations.plant import PROMTOOL, ROOT, needs_prometheus

FOLDER = ROOT / "deploy/prometheus"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]


def promtool(*arguments, cwd=FOLDER):
    return subprocess.run(
        [PROMTOOL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


@pytest.mark.prometheus
@needs_prometheus
def test_rules_and_configuration_are_valid():
    assert promtool("check", "rules", "alerts.yml").returncode == 0
    said = promtool("check", "config", "--syntax-only", "prometheus.yml")
    assert said.returncode == 0, said.stderr


@pytest.mark.prometheus
@needs_prometheus
def test_alerts_fire_and_stay_quiet_as_written():
    said = promtool("test", "rules", "alerts_test.yml")
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.prometheus
@needs_prometheus
@pytest.mark.parametrize("name", NAMES)
def test_an_alert_that_never_fires_is_found(name, tmp_path):
    """The tests of the rules are worth something: without its rule each of them fails."""
    for file in ("alerts.yml", "alerts_test.yml"):
        shutil.copy(FOLDER / file, tmp_path)
    rules = yaml.safe_load((tmp_path / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == name:
                rule["expr"] = "vector(0) > 1"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    said = promtool("test", "rules", "alerts_test.yml", cwd=tmp_path)
    assert said.returncode != 0
    assert name in said.stdout + said.stderr


def test_each_alert_is_tried_both_ways():
    tries = {name: set() for name in NAMES}
    for test in yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]:
        for tried in test["alert_rule_test"]:
            tries[tried["alertname"]].add(bool(tried["exp_alerts"]))
    assert tries == {name: {True, False} for name in NAMES}


def test_each_alert_says_what_to_do():
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading.startswith("Afterglow")] == NAMES
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_alerts_ask_only_for_metrics_that_there_are():
    page = (ROOT / "docs/metrics.md").read_text()
    known = set(re.findall(r"^\| `([a-z_]+)`", page, re.MULTILINE))
    for rule in RULES:
        for name in re.findall(r"\b(?:afterglow|process)_[a-z_]+", rule["expr"]):
            assert name.removesuffix("_bucket") in known, rule["alert"]
