"""Models on real logs: as good as stated, whoever learns, and at no later time than stated."""

import csv
import gzip

import numpy as np
import pytest

from dataflows.evaluating import evaluate
from loadtest.evaluate import buyers, lanes, predictions
from loadtest.evaluate.logs import CDNOW, DATA, DAY_MS, JOURNEY, Log

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real logs in {DATA}"),
]

ONE = {"batch": predictions.logistic}
"""The faster of the batch learners; ``make evaluate`` shows the others."""


@pytest.fixture(scope="module")
def cdnow():
    (foretold,) = evaluate(CDNOW.load(), CDNOW.name, CDNOW.messages(), DAY_MS).tasks
    return foretold


@pytest.mark.timeout(600)
def test_who_buys_again_within_30_days_at_cdnow(cdnow):
    online, logistic = predictions.compared(cdnow, CDNOW.first_scored_day, ONE)
    assert online.count == 28_056
    assert 0.745 <= online.auc < 0.752, "near .752 labels have leaked"
    assert online.log_loss <= 0.556
    assert online.calibration_error <= 0.015
    assert online.auc > logistic.auc


def test_the_settings_foretell_what_they_say(cdnow):
    """Every outcome, worked out anew from the file."""
    bought = {}
    with gzip.open(DATA / "cdnow.csv.gz", "rt", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            bought.setdefault(int(row["ts"]), set()).add(row["user_id"])
    days = np.array(sorted(bought))
    again = {
        day: sum(
            any(user in bought[other] for other in days if day < other <= day + 30 * DAY_MS)
            for user in bought[day]
        )
        for day in days[::40].tolist()
        if day + 30 * DAY_MS <= days[-1]
    }
    examples = cdnow.examples
    for day, count in again.items():
        of_day = examples.ts_ms == day
        assert int(of_day.sum()) == len(bought[day])
        assert int(examples.y[of_day].sum()) == count


@pytest.mark.timeout(600)
def test_who_comes_again_and_who_does_not_on_a_complete_journey():
    run = evaluate(JOURNEY.load(), JOURNEY.name, JOURNEY.messages(), DAY_MS)
    for foretold in run.tasks:
        online, logistic = predictions.compared(foretold, JOURNEY.first_scored_day, ONE)
        assert online.count > 30_000
        assert online.auc > logistic.auc
        assert online.log_loss < logistic.log_loss
        assert online.calibration_error < 0.025


class Sample(Log):
    """The customers of the published tenth of CDNOW."""

    def messages(self, data=DATA):
        with gzip.open(data / "cdnow.csv.gz", "rt", newline="", encoding="utf-8") as file:
            users = {row["user_id"].encode() for row in csv.DictReader(file) if row["sample_id"]}
        for message in super().messages(data):
            if message.split(b'"user_id":"')[1].split(b'"')[0] in users:
                yield message


@pytest.mark.servers
@pytest.mark.timeout(600)
def test_lanes_that_learn_together_are_as_good_as_one():
    sample = Sample("cdnow", "cdnow", CDNOW.columns, first_scored_day=150)
    one, *others = lanes.compared(sample, (1, 4, 8), 14 * DAY_MS)
    assert one.count > 2_500
    for other in others:
        assert other.count == one.count
        assert other.auc == pytest.approx(one.auc, abs=0.001)
        assert other.log_loss == pytest.approx(one.log_loss, abs=0.001)


def test_buyers_of_the_cdnow_sample_have_the_published_parameters():
    found = buyers.read(DATA / "cdnow.csv.gz")
    model, likelihood, _ = buyers.fitted(found)
    for name in ("r", "alpha", "a", "b"):
        published = getattr(buyers.PUBLISHED, name)
        assert getattr(model, name) == pytest.approx(published, rel=0.01)
    assert likelihood == pytest.approx(-9582.43, abs=0.01)
    bg_nbd, as_before, came = buyers.foretold(found, model)
    assert bg_nbd.correlation > 0.62 > as_before.correlation
    assert bg_nbd.error < 0.8 * as_before.error
    assert abs(bg_nbd.total - came.total) < 0.15 * came.total
