"""Batches: selections, and the same after a journey to another process."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.batch import Batch, Read, Span
from events.decode import Decoder
from events.schema import EventRules
from events.shop import Habits, Shop
from events.texts import Texts

NOW_MS = 1_790_000_000_000
texts = st.lists(st.sampled_from([None, "", "a", "b", "ü\n", "c"]), max_size=12)


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
    columns = [column.tolist() for column in numbers] + [column.tolist() for column in labels]
    return list(zip(batch.users.tolist(), batch.event_ids.tolist(), values, *columns, strict=True))


def test_a_batch_travels_whole():
    batch = shop_batch()
    batch.event_ids = Texts.of([*batch.event_ids.strings()[:-1], "with\nnewline\x00"])
    held = pickle.loads(pickle.dumps(batch))
    assert rows(held) == rows(batch)
    assert (held.spans, held.more, held.newest_record_ms) == (batch.spans, True, -1)


def test_a_selection_is_its_rows():
    third = np.arange(500) % 3 == 0
    second = np.arange(np.count_nonzero(third)) % 2 == 0
    expected = rows(shop_batch())[::3]
    batch = shop_batch()
    assert rows(batch.where(third)) == expected
    assert rows(batch.where(third).where(second)) == expected[::2]
    assert rows(pickle.loads(pickle.dumps(batch.where(third)))) == expected
    assert rows(Batch.joined([batch.where(third), batch.where(~third)])) == [
        *expected,
        *rows(batch.where(~third)),
    ]
    assert batch.where(third).spans == batch.spans


def test_an_empty_selection():
    batch = shop_batch().where(np.zeros(500, np.bool_))
    assert rows(pickle.loads(pickle.dumps(batch))) == []


@given(texts)
def test_texts_are_read_as_they_came_in_any_selection_and_after_a_journey(column):
    held = Texts.of(column)
    assert held.tolist() == column
    assert [held[i] for i in range(len(column))] == column
    assert held.present.tolist() == [text is not None for text in column]
    assert held.take(np.arange(len(column))[::-1]).tolist() == column[::-1]
    assert Texts.joined([held, held.packed()]).tolist() == column * 2
    travelled = pickle.loads(pickle.dumps(held.take(np.arange(1, len(column), 2))))
    assert travelled.tolist() == column[1::2]
    assert travelled.hashes().tolist() == held.hashes()[1::2].tolist()


def test_what_travels_holds_nothing_else():
    held = Texts.of(["a" * 10_000, "b", "c" * 10_000])
    assert len(pickle.dumps(held.take(np.array([1])))) < 500


def test_a_block_without_its_pad_is_refused():
    with pytest.raises(ValueError, match="must end with 16 bytes"):
        Texts(b"ann", np.array([0]), np.array([3], np.int32))


def spanned(batch, *spans):
    batch.spans = list(spans)
    return batch


def test_batches_at_hand_become_one_whose_spans_follow_on():
    whole = shop_batch()
    first, then = whole.take(np.arange(200)), whole.take(np.arange(200, 500))
    spanned(first, Span(0, 0, 200, 9), Span(1, 5, 5, at_end=True))
    spanned(then, Span(0, 200, 500, 7), Span(1, 5, 8, 4), Span(2, 0, 0))
    one = Batch.chained([first, then])
    assert rows(one) == rows(whole)
    assert one.spans == [Span(0, 0, 500, 9), Span(1, 5, 8, 4), Span(2, 0, 0)]
    assert Batch.chained([first]) is first


def test_what_others_have_seen_before_is_not_forgotten_when_batches_are_joined():
    """Parts of one lane's events: of the first read the newest event is another lane's."""
    whole = shop_batch()
    first, then = whole.take(np.arange(200)), whole.take(np.arange(200, 500))
    newest = int(whole.ts_ms.max()) + 1_000
    first.seen_ms, then.seen_ms = first.seen() - 5, then.seen() - 5
    spanned(first, Span(0, 0, 200, newest))
    spanned(then, Span(0, 200, 500, newest + 7))
    one = Batch.chained([first, then])
    assert one.seen().tolist() == [*first.seen_ms, *[newest] * 300]


def test_a_gap_between_batches_stays_to_be_seen():
    whole = shop_batch()
    first, then = whole.take(np.arange(200)), whole.take(np.arange(200, 500))
    spans = [Span(0, 0, 200), Span(0, 201, 500)]
    one = Batch.chained([spanned(first, spans[0]), spanned(then, spans[1])])
    assert one.spans == spans
