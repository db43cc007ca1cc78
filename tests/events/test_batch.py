"""Batches: selections, and the same after a journey to another process."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.batch import Batch, Labels, Read, Span
from events.columns import Coder
from events.decode import Decoder
from events.schema import EventRules
from events.shop import Habits, Shop

NOW_MS = 1_790_000_000_000
texts = st.lists(st.sampled_from([None, "", "a", "b", "ü\n", "c"]), max_size=12)


def read_labels(labels):
    return [None if code < 0 else labels.values[code] for code in labels.codes.tolist()]


def shop_batch(n=500):
    block = Shop(3, NOW_MS, Habits(users=100, items=50), broken_share=0).block(n)
    read = Read(
        topic="events",
        payloads=block.payloads,
        record_ts_ms=np.full(n, -1),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(n),
        spans=[Span(0, 0, n)],
        more=True,
    )
    return Decoder(EventRules())(read)[0]


def rows(batch: Batch):
    numbers = (batch.type, batch.ts_ms, batch.amount_minor, batch.quantity, batch.event_hash)
    numbers += (batch.order_hash, batch.partition, batch.offset)
    labels = (batch.item, batch.category, batch.device, batch.country, batch.source)
    values = [None if np.isnan(value) else value for value in batch.value.tolist()]
    columns = [column.tolist() for column in numbers] + [read_labels(column) for column in labels]
    return list(zip(batch.users, batch.event_ids, values, *columns, strict=True))


def test_a_batch_travels_whole():
    batch = shop_batch()
    batch.event_ids[3] = "with\nnewline\x00"
    held = pickle.loads(pickle.dumps(batch))
    assert rows(held) == rows(batch)
    assert (held.spans, held.more, held.newest_record_ms) == (batch.spans, True, -1)


def test_a_selection_is_its_rows_before_and_after_coding():
    third = np.arange(500) % 3 == 0
    second = np.arange(np.count_nonzero(third)) % 2 == 0
    expected = rows(shop_batch())[::3]
    uncoded = shop_batch()
    assert rows(uncoded.where(third)) == expected
    assert rows(uncoded.where(third).where(second)) == expected[::2]
    assert rows(pickle.loads(pickle.dumps(uncoded.where(third)))) == expected
    coded = shop_batch()
    rows(coded)
    assert rows(coded.where(third)) == expected
    assert coded.where(third).spans == coded.spans


def test_an_empty_selection():
    batch = shop_batch().where(np.zeros(500, np.bool_))
    assert rows(pickle.loads(pickle.dumps(batch))) == []


@given(st.lists(texts, max_size=5))
def test_texts_are_read_as_they_came_whenever_a_coder_starts_anew(columns):
    coder = Coder(cap=2)
    labels = [coder.labels(column) for column in columns]
    for column, held in reversed(list(zip(columns, labels, strict=True))):
        assert read_labels(held) == [text or None for text in column]
    for column, held in zip(columns, labels, strict=True):
        assert read_labels(held) == [text or None for text in column]


def test_labels_travel_with_only_the_values_they_use():
    held = pickle.loads(pickle.dumps(Labels(np.array([5, -1, 2, 5], np.int32), list("abcdefg"))))
    assert held.values == ["c", "f"]
    assert held.codes.tolist() == [1, -1, 0, 1]
