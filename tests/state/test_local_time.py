"""Hour, weekday and part of day of the last event, in segments and for models."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from state.conditions import compile_condition
from state.features import RowView, column_feature
from state.local_time import PARTS, Zone, context_features
from state.quantities import matrix, quantity
from state.rfm import Cuts
from state.table import Column, Table
from state.text_index import TextIndex
from state.times import HOUR_MS, NEVER_MS
from state.view import Kind


def view_at(times, zone):
    table = Table([Column("last_seen", "i8")])
    rows = table.grow(len(times))
    table["last_seen"][rows] = [int(t.timestamp()) * 1000 for t in times]
    features = context_features(zone)
    features["last_seen"] = column_feature(Kind.TIME, "last_seen")
    now = table["last_seen"][rows] + 10 * HOUR_MS
    return RowView(features, table, rows, now, Cuts(), TextIndex()), features


@pytest.mark.parametrize("offset", [-7, 0, 5])
def test_they_are_those_of_a_clock_on_the_wall(offset):
    start = datetime(2026, 11, 23, tzinfo=UTC)  # a Monday
    times = [start + timedelta(hours=step) for step in range(0, 24 * 15, 5)]
    zone = Zone(np.array([[NEVER_MS], [offset * HOUR_MS]]))
    view, features = view_at(times, zone)
    local = [t + timedelta(hours=offset) for t in times]
    assert view.value("context.hour").tolist() == [t.hour for t in local]
    assert view.value("context.weekday").tolist() == [t.isoweekday() for t in local]
    texts = [view.text("context.part_of_day", code) for code in view.value("context.part_of_day")]
    assert texts == [PARTS[t.hour // 6] for t in local]
    kinds = {name: feature.kind for name, feature in features.items()}
    evening = compile_condition('context.part_of_day == "evening"', kinds).truth(view)
    assert evening.tolist() == [t.hour >= 18 for t in local]
    X = matrix(view, [quantity('context.part_of_day == "night"', kinds)])
    assert (X[:, 0] > 0).tolist() == [t.hour < 6 for t in local]
