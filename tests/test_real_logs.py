"""Real event logs through the whole flow and a real store, against a batch program, to the cent.

The logs are not part of the project; without them these tests are skipped.
"""

import csv
import gzip
import math
from pathlib import Path

import msgspec
import pytest

from dataflows.embedded import EmbeddedStore
from dataflows.replay import replay
from dataflows.settings import load
from events.rows import read_messages
from state.store import Store
from tests.oracle import batch

DATA = Path(__file__).parents[2] / "shared" / "data"
DAY_MS = 86_400_000
NAMES = {
    "cdnow": ("cdnow", {}, {}),
    "journey": ("complete_journey_sample", {"order_id": "session_id"}, {}),
    "rees46": ("rees46_oct2019_head", {"order_id": "session_id"}, batch.SHOP_TYPES),
}

pytestmark = [
    pytest.mark.data,
    pytest.mark.servers,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real logs in {DATA}"),
]


def in_order(path, order, times, folder):
    """The messages of a CSV in time order (as it is) or source order, once or more often."""
    if order == "source":
        with gzip.open(path, "rt", newline="") as file:
            header, *rows = csv.reader(file)
        rows.sort(key=lambda row: int(row[0]))
        path = folder / "source.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return [path] * times


def run(name, tmp_path, *, order="time", partitions=1, times=1, sets=(), until_ms=None):
    """Replay a log; the result, every profile by user, and the events as the oracle reads them."""
    file, columns, types = NAMES[name]
    path = DATA / f"{file}.csv.gz"
    paths = in_order(path, order, times, tmp_path)

    def payloads():
        for each in paths:
            yield from read_messages(each, {"type": "event_type", **columns}, types)

    settings = load(sets=["models.enabled=false", *sets], env={})
    with EmbeddedStore(tmp_path / "store") as embedded:
        store = Store(embedded.url, "t", settings.redis.shards)
        done = replay(settings, store, file, payloads, partitions=partitions, until_ms=until_ms)
        documents = {
            user: msgspec.msgpack.decode(raw)
            for shard in range(settings.redis.shards)
            for user, raw in store.profiles(shard)
        }
        store.close()
    events = batch.read_events(path, order_column=columns.get("order_id", "none"), types=types)
    return done, documents, events


def assert_values(documents, frame):
    assert documents.keys() == set(frame["user_id"])
    for row in frame.iter_rows(named=True):
        document = documents[row["user_id"]]
        lifetime, window = document["lifetime"], document["window"]
        assert lifetime["events"] == row["events"]
        assert (lifetime["orders"], lifetime["spend"]) == (row["orders"], row["spend"])
        assert (window["orders"], window["spend"]) == (row["window_orders"], row["window_spend"])
        assert document["last_order"] == row["last_order"]
        for part in ("orders", "spend"):
            found, truth = document["decayed"][part], row[f"decayed_{part}"]
            assert math.isclose(found, truth, rel_tol=1e-9, abs_tol=1e-300), (document, row)


def scores(documents):
    """Scores and label of every buyer."""
    return {
        user: tuple(document["rfm"][part] for part in ("r", "f", "m", "label"))
        for user, document in documents.items()
        if document["last_order"] is not None
    }


def expected(frame):
    return {row[0]: row[1:] for row in frame.select("user_id", "r", "f", "m", "label").rows()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cdnow", {}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("cdnow", {"order": "source", "partitions": 16}),
                ("cdnow", {"times": 2, "partitions": 3, "sets": ["dedup.window=600d"]}),
                ("journey", {"partitions": 3}),
                ("journey", {"order": "source"}),
                ("journey", {"times": 2, "sets": ["dedup.window=600d"]}),
                ("rees46", {"order": "source", "partitions": 3}),
                ("rees46", {"times": 2, "partitions": 16, "sets": ["dedup.window=600d"]}),
            ]
        ),
    ],
    ids=str,
)
def test_values_and_labels_equal_the_batch_program(name, options, tmp_path):
    done, documents, events = run(name, tmp_path, **options)
    frame = batch.profiles(events)
    assert_values(documents, frame)
    cuts = msgspec.to_builtins(done.cuts)
    truth = batch.labels_from_cuts(frame, cuts, at_ms=done.until_ms)
    assert scores(documents) == expected(truth)
    assert done.duplicates == (done.events if options.get("times") == 2 else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cdnow", "journey"])
def test_labels_equal_those_of_pandas(name, tmp_path):
    file, columns, types = NAMES[name]
    events = batch.read_events(
        DATA / f"{file}.csv.gz", order_column=columns.get("order_id", "none"), types=types
    )
    until_ms = (events["ts"].max() // DAY_MS + 1) * DAY_MS
    sets = ["rfm.basis=window", "rfm.window=2000d"]
    _, documents, _ = run(name, tmp_path, sets=sets, until_ms=until_ms)
    frame = batch.profiles(events, until_ms=until_ms, window_ms=2000 * DAY_MS)
    truth, found = expected(batch.pandas_labels(frame)), scores(documents)
    assert found.keys() == truth.keys()
    agree = sum(found[user] == truth[user] for user in truth)
    assert agree >= 0.999 * len(truth)
