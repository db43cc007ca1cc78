"""``python deploy/grafana/build.py``: writes the dashboards from what stands here.

A dashboard is rows of panels, a panel a title, a unit and its queries. A test runs every query on a
Prometheus that scrapes a live engine, and holds the written files equal to this one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

OUT: Final = Path(__file__).parent / "dashboards"
JOB: Final = 'job="afterglow"'
RATE: Final = "$__rate_interval"
WIDTH: Final = 24
HEIGHT: Final = 8
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(slots=True, frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: what it shows.
        unit: by Grafana's name.
        queries: legend to PromQL.
        about: what to look for.
    """

    title: str
    unit: str
    queries: dict[str, str]
    about: str = ""


@dataclass(slots=True, frozen=True)
class Dashboard:
    """A page of rows.

    Attributes:
        uid: its address, for ever.
        title: its name.
        rows: heading to panels, three in a line.
    """

    uid: str
    title: str
    rows: dict[str, list[Panel]] = field(default_factory=dict)


def quantile(share: float, metric: str, by: str = "") -> str:
    """A quantile of a histogram over all workers."""
    labels = f"le, {by}" if by else "le"
    rates = f"rate({metric}_bucket{{{JOB}}}[{RATE}])"
    return f"histogram_quantile({share}, sum by ({labels}) ({rates}))"


def rate(metric: str, by: str = "") -> str:
    """Per second, over all workers."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{JOB}}}[{RATE}]))"


def total(metric: str, by: str = "", more: str = "", how: str = "sum") -> str:
    """Over all workers, now."""
    grouped = f" by ({by})" if by else ""
    labels = f"{JOB}, {more}" if more else JOB
    return f"{how}{grouped} ({metric}{{{labels}}})"


def model(measure: str) -> str:
    """A measure of every model that has it."""
    return total("afterglow_model", "model", f'measure="{measure}"', "max")


EVENTS: Final = rate("afterglow_events_total")
DEAD: Final = rate("afterglow_dead_letters_total")

FLOW: Final = Dashboard(
    "afterglow-flow",
    "Afterglow: flow",
    {
        "Is it fresh?": [
            Panel(
                "Lag",
                "short",
                {"partition {{partition}}": total("afterglow_lag", "partition")},
                "Messages not yet read. Should fall back to near 0 after every burst.",
            ),
            Panel(
                "Event to change",
                "s",
                {
                    "p50": quantile(0.5, "afterglow_event_to_change_seconds"),
                    "p99": quantile(0.99, "afterglow_event_to_change_seconds"),
                },
                "From the log's timestamp to the broker's acknowledgement of the change.",
            ),
            Panel(
                "Event to commit",
                "s",
                {
                    "p50": quantile(0.5, "afterglow_event_to_commit_seconds"),
                    "p99": quantile(0.99, "afterglow_event_to_commit_seconds"),
                },
                "From the log's timestamp to the profile in the store.",
            ),
            Panel(
                "Clock behind the wall",
                "s",
                {"{{instance}}": f"afterglow_watermark_delay_seconds{{{JOB}}}"},
                "How late silence is noticed. 0.5 s is the default when input is caught up.",
            ),
            Panel(
                "Changes that wait for the broker",
                "short",
                {"waiting": total("afterglow_changes_unpublished")},
                "Lanes pause when kafka.unpublished of them wait.",
            ),
            Panel(
                "Publishing begun again",
                "short",
                {"retries": rate("afterglow_publish_retries_total")},
            ),
        ],
        "What flows": [
            Panel(
                "Events",
                "ops",
                {
                    "applied": EVENTS,
                    "duplicates": rate("afterglow_duplicates_total"),
                    "late": rate("afterglow_late_total"),
                    "unchecked": rate("afterglow_unchecked_total"),
                },
            ),
            Panel(
                "Changes by cause", "ops", {"{{cause}}": rate("afterglow_changes_total", "cause")}
            ),
            Panel(
                "Changes decided and published",
                "ops",
                {
                    "decided": rate("afterglow_changes_total"),
                    "published": rate("afterglow_changes_published_total"),
                },
            ),
            Panel(
                "Dead letters by reason",
                "ops",
                {"{{reason}}": rate("afterglow_dead_letters_total", "reason")},
            ),
            Panel(
                "Share of dead letters",
                "percentunit",
                {"share": f"{DEAD} / ({DEAD} + {EVENTS})"},
            ),
            Panel(
                "Profiles written and users looked at",
                "ops",
                {
                    "written": rate("afterglow_committed_total"),
                    "looked at": rate("afterglow_decided_total"),
                },
            ),
        ],
        "Who works, and how hard?": [
            Panel("Workers that answer", "short", {"up": f"sum (up{{{JOB}}})"}),
            Panel(
                "Owners of a lane",
                "short",
                {
                    "worker {{worker}}": "count by (worker) "
                    f"(max_over_time(afterglow_fence_epoch{{{JOB}}}[2m]))"
                },
                "In the last two minutes. More than one: another engine took the lane over.",
            ),
            Panel(
                "Since when a lane is owned",
                "s",
                {
                    "worker {{worker}}": "time() - "
                    + total("afterglow_fence_epoch", "worker", how="max")
                    + " / 1000"
                },
            ),
            Panel(
                "Memory",
                "bytes",
                {"{{instance}}": f"process_resident_memory_bytes{{{JOB}}}"},
            ),
            Panel(
                "Users",
                "short",
                {"users": total("afterglow_rows")},
            ),
            Panel(
                "CPU",
                "percentunit",
                {"{{instance}}": f"rate(process_cpu_seconds_total{{{JOB}}}[{RATE}])"},
                "1 is a whole core. The lane itself works on one.",
            ),
            Panel(
                "Share of time in each step",
                "percentunit",
                {"{{step}}": rate("afterglow_step_seconds_sum", "step")},
            ),
            Panel(
                "Slowest steps (p99)",
                "s",
                {"{{step}}": quantile(0.99, "afterglow_step_seconds", "step")},
            ),
            Panel("Open files", "short", {"{{instance}}": f"process_open_fds{{{JOB}}}"}),
        ],
    },
)

SEGMENTS: Final = Dashboard(
    "afterglow-segments",
    "Afterglow: segments and offers",
    {
        "Segments": [
            Panel(
                "Members", "short", {"{{segment}}": total("afterglow_segment_members", "segment")}
            ),
            Panel(
                "Share of users",
                "percentunit",
                {
                    "{{segment}}": f"{total('afterglow_segment_members', 'segment')}"
                    f" / ignoring (segment) group_left {total('afterglow_rows')}"
                },
            ),
            Panel(
                "Members gained or lost in an hour",
                "short",
                {
                    "{{segment}}": "sum by (segment) "
                    f"(delta(afterglow_segment_members{{{JOB}}}[1h]))"
                },
            ),
        ],
        "Offers": [
            Panel("Standing", "short", {"{{offer}}": total("afterglow_offers_standing", "offer")}),
            Panel("Given", "ops", {"{{offer}}": rate("afterglow_offers_given_total", "offer")}),
        ],
    },
)

LEARNING: Final = Dashboard(
    "afterglow-learning",
    "Afterglow: models, recommendations, experiments",
    {
        "Models": [
            Panel("AUC", "none", {"{{model}}": model("auc")}),
            Panel(
                "Log-loss saved against the base rate",
                "percentunit",
                {"{{model}}": f"1 - {model('log_loss')} / {model('base_loss')}"},
                "Below 0 the model is worse than always saying the base rate.",
            ),
            Panel("Calibration error", "none", {"{{model}}": model("calibration_error")}),
            Panel("Outcomes learned", "short", {"{{model}}": model("labels")}),
            Panel(
                "Drift alarms, rollbacks, changes of champion",
                "short",
                {
                    "drift {{model}}": model("drift_alarms"),
                    "rollbacks {{model}}": model("rollbacks"),
                    "challengers {{model}}": model("challenger_leads"),
                },
            ),
            Panel(
                "Inputs that have moved (PSI)",
                "none",
                {"{{measure}}": total("afterglow_model", "measure", 'model="inputs"', "max")},
                "Above 0.25 is far.",
            ),
            Panel(
                "Samples that wait for their outcome",
                "short",
                {"{{measure}}": total("afterglow_model", "measure", 'model="parked"')},
            ),
            Panel(
                "Alerts",
                "short",
                {"alerts": f"sum (increase(afterglow_model_alerts_total{{{JOB}}}[1h]))"},
            ),
        ],
        "Recommendations": [
            Panel(
                "Items known",
                "short",
                {
                    "items": total(
                        "afterglow_model", more='model="items", measure="items"', how="max"
                    )
                },
            ),
            Panel(
                "Lists that wait",
                "short",
                {
                    "waiting": total(
                        "afterglow_model", more='model="items", measure="lists_waiting"'
                    )
                },
            ),
            Panel(
                "Interactions dropped",
                "short",
                {
                    "dropped": total(
                        "afterglow_model", more='model="items", measure="interactions_dropped"'
                    )
                },
            ),
            Panel(
                "Ranking",
                "short",
                {"{{measure}}": total("afterglow_model", "measure", 'model="ranking"', "max")},
            ),
            Panel(
                "Catalogue messages",
                "ops",
                {
                    "{{reason}}": "max by (reason) "
                    f"(rate(afterglow_catalog_messages_total{{{JOB}}}[{RATE}]))"
                },
                "An empty reason: taken.",
            ),
        ],
        "Experiments": [
            Panel(
                "Users",
                "short",
                {
                    "{{experiment}} {{arm}}": total(
                        "afterglow_experiment", "experiment, arm", 'measure="users"'
                    )
                },
            ),
            Panel(
                "Conversion",
                "percentunit",
                {
                    "{{experiment}} {{arm}}": total(
                        "afterglow_experiment", "experiment, arm", 'measure="conversions"'
                    )
                    + " / "
                    + total("afterglow_experiment", "experiment, arm", 'measure="users"')
                },
            ),
            Panel(
                "Lift",
                "percentunit",
                {
                    "{{experiment}} {{arm}} {{measure}}": total(
                        "afterglow_experiment_ruled",
                        "experiment, arm, measure",
                        'measure=~".*_lift"',
                        "max",
                    )
                },
            ),
            Panel(
                "Always-valid p",
                "none",
                {
                    "{{experiment}} {{arm}} {{measure}}": total(
                        "afterglow_experiment_ruled",
                        "experiment, arm, measure",
                        'measure=~".*_p"',
                        "min",
                    )
                },
            ),
            Panel(
                "Do the arms' sizes fit? (p)",
                "none",
                {
                    "{{experiment}}": total(
                        "afterglow_experiment_sample_ratio_p", "experiment", how="min"
                    )
                },
                "Below 0.001 assignment is broken, and nothing else here may be believed.",
            ),
            Panel(
                "Weight of each arm",
                "percentunit",
                {
                    "{{experiment}} {{arm}}": total(
                        "afterglow_experiment_ruled", "experiment, arm", 'measure="weight"', "max"
                    )
                },
            ),
        ],
    },
)

API: Final = 'job="afterglow-serving"'
ANSWERS: Final = f"rate(afterglow_http_requests_total{{{API}}}[{RATE}])"
TIMES: Final = f"rate(afterglow_http_seconds_bucket{{{API}}}[{RATE}])"

SERVING: Final = Dashboard(
    "afterglow-serving",
    "Afterglow: HTTP API",
    {
        "Requests": [
            Panel("Answers by status", "reqps", {"{{status}}": f"sum by (status) ({ANSWERS})"}),
            Panel("Answers by route", "reqps", {"{{route}}": f"sum by (route) ({ANSWERS})"}),
            Panel(
                "How long they take",
                "s",
                {
                    f"p{share}": f"histogram_quantile({share / 100}, sum by (le) ({TIMES}))"
                    for share in (50, 99)
                },
            ),
            Panel("Servers that answer", "short", {"up": f"sum (up{{{API}}})"}),
            Panel("Followers", "short", {"{{instance}}": f"afterglow_http_followers{{{API}}}"}),
            Panel(
                "Followers cut off",
                "short",
                {
                    "{{reason}}": "sum by (reason) "
                    f"(increase(afterglow_http_followers_cut_total{{{API}}}[1h]))"
                },
            ),
        ],
    },
)

ALL: Final = (FLOW, SEGMENTS, LEARNING, SERVING)


def document(board: Dashboard) -> dict[str, Any]:
    """A dashboard in Grafana's form."""
    panels: list[dict[str, Any]] = []
    y = 0
    for heading, row in board.rows.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        panels.append({"type": "row", "title": heading, "gridPos": place, "collapsed": False})
        y += 1
        for number, panel in enumerate(row):
            place = {
                "h": HEIGHT,
                "w": HEIGHT,
                "x": number % 3 * HEIGHT,
                "y": y + number // 3 * HEIGHT,
            }
            panels.append(_picture(panel, place))
        y += -(-len(row) // 3) * HEIGHT
    for number, found in enumerate(panels, 1):
        found["id"] = number
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["afterglow"],
        "timezone": "utc",
        "schemaVersion": 39,
        "version": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def _picture(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": {"fillOpacity": 10, "spanNulls": False}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend,
            }
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def written(board: Dashboard) -> str:
    """A dashboard as it stands in its file."""
    return json.dumps(document(board), indent=1) + "\n"


if __name__ == "__main__":
    for board in ALL:
        (OUT / f"{board.uid}.json").write_text(written(board))
