"""What is counted is what is shown."""

from urllib.request import urlopen

import pytest

from events.batch import DeadLetter, Span
from operators.metrics import Metrics, MetricsError
from state.counters import Counters
from state.experiment_plan import Arm, Experiment, ExperimentsPlan, Ruling, encode_rulings
from state.experiments import Experiments
from state.totals import CONVERSIONS, USERS


def shown(metrics, name, **labels):
    """One sample."""
    return metrics.registry.get_sample_value(name, labels)


def test_totals_follow_a_lane_by_difference():
    metrics, counters = Metrics(), Counters()
    for events, causes in ((5, ["event"]), (0, []), (7, ["timer", "event", "timer"])):
        counters.events += events
        counters.late += 1
        counters.changes.update(causes)
        metrics.observe(counters)
        metrics.observe(counters)
        assert shown(metrics, "afterglow_events_total") == counters.events
        assert shown(metrics, "afterglow_late_total") == counters.late
        for cause, count in counters.changes.items():
            assert shown(metrics, "afterglow_changes_total", cause=cause) == count


def test_every_counter_of_a_lane_is_shown():
    metrics, counters = Metrics(), Counters(1, 2, 3, 4, 5, 6)
    metrics.observe(counters)
    names = ("events", "duplicates", "unchecked", "late", "decided", "committed")
    assert [shown(metrics, f"afterglow_{name}_total") for name in names] == [1, 2, 3, 4, 5, 6]


def test_dead_letters_are_counted_by_reason():
    metrics = Metrics()
    reasons = ["json", "range", "json"]
    metrics.count_dead([DeadLetter(b"", None, r, "", "", "t", 0, 0, -1) for r in reasons])
    assert shown(metrics, "afterglow_dead_letters_total", reason="json") == 2
    assert shown(metrics, "afterglow_dead_letters_total", reason="range") == 1


def test_steps_and_freshness_are_histograms():
    metrics = Metrics()
    for _ in range(3):
        with metrics.step("apply"):
            pass
    assert shown(metrics, "afterglow_step_seconds_count", step="apply") == 3
    metrics.observe_commit(0.015)
    metrics.observe_commit(-0.001)
    assert shown(metrics, "afterglow_event_to_commit_seconds_count") == 2
    assert shown(metrics, "afterglow_event_to_commit_seconds_bucket", le="0.005") == 1
    assert shown(metrics, "afterglow_event_to_commit_seconds_bucket", le="0.02") == 2


def test_lag_is_what_lies_behind_each_partition():
    metrics = Metrics()
    metrics.observe_lag([Span(0, 5, 10), Span(1, 0, 0), Span(2, 3, 9)], {0: 25, 2: 8})
    assert shown(metrics, "afterglow_lag", partition="0") == 15
    assert shown(metrics, "afterglow_lag", partition="1") is None
    assert shown(metrics, "afterglow_lag", partition="2") == 0


def test_a_models_quality_is_shown_once_it_is_known():
    metrics = Metrics()
    metrics.observe_model("purchase_7d", {"auc": None, "log_loss": 0.5})
    assert shown(metrics, "afterglow_model", model="purchase_7d", measure="auc") is None
    assert shown(metrics, "afterglow_model", model="purchase_7d", measure="log_loss") == 0.5


def test_offers_are_counted_and_sized():
    metrics = Metrics()
    for given, sizes in (([3, 0], [2, 0]), ([5, 1], [1, 1])):
        metrics.observe_offers(["back", "vip"], given, sizes)
        shown_given = [
            shown(metrics, "afterglow_offers_given_total", offer=o) for o in ("back", "vip")
        ]
        assert shown_given == given
        assert [shown(metrics, "afterglow_offers_standing", offer=o) for o in ("back", "vip")] == (
            sizes
        )


def test_arms_are_shown_with_what_was_ruled_about_them():
    plan = ExperimentsPlan((Experiment("layout", (Arm("control"), Arm("bold"))),))
    experiments, metrics = Experiments(plan, 64), Metrics()
    experiments._trials[0].totals[3, 1, [USERS, CONVERSIONS]] = 40, 7
    metrics.observe_experiments(experiments)
    place = {"experiment": "layout", "arm": "bold"}
    assert shown(metrics, "afterglow_experiment", **place, measure="users") == 40
    assert shown(metrics, "afterglow_experiment", **place, measure="conversions") == 7
    assert shown(metrics, "afterglow_experiment_ruled", **place, measure="stopped") is None
    ruling = Ruling({"bold": "revenue"}, [1.0, 0.0], {"bold": {"conversion_p": 0.03}}, 0.4)
    experiments.adopt(encode_rulings({plan.keys[0]: ruling}))
    metrics.observe_experiments(experiments)
    assert shown(metrics, "afterglow_experiment_ruled", **place, measure="stopped") == 1
    assert shown(metrics, "afterglow_experiment_ruled", **place, measure="conversion_p") == 0.03
    assert shown(metrics, "afterglow_experiment_sample_ratio_p", experiment="layout") == 0.4


def test_two_processes_worth_of_metrics_do_not_mix():
    first, second = Metrics(), Metrics()
    first.observe(Counters(events=3))
    assert shown(second, "afterglow_events_total") == 0


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_scrapes_are_answered_on_loopback(host):
    metrics = Metrics()
    metrics.rows.set(12)
    server = metrics.serve(f"{host}:0")
    try:
        assert server.server_address[0] == "127.0.0.1"
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            assert b"\nafterglow_rows 12.0\n" in answer.read()
        with pytest.raises(MetricsError, match=r"cannot be served on .*in use.*metrics.address"):
            Metrics().serve(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:port"])
def test_a_wrong_address_is_said(address):
    with pytest.raises(MetricsError, match=address):
        Metrics().serve(address)
