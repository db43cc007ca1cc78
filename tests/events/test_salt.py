"""The salt of event hashes: both decoders use it, and nobody can aim at another's event."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.batch import Read, Span
from events.decode import Decoder
from events.hashing import combine, event_hashes, hash_texts
from events.schema import EventRules
from tests.state.collisions import event_id_against

NOW_MS = 1_790_000_000_000
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=20)


def hashes_of(events, salt):
    """Those of events given as (user, event id, whether the fast decoder is to pass it on)."""
    payloads = [
        json.dumps(
            {"user_id": user, "event_id": own, "type": "page_view", "ts": NOW_MS},
            ensure_ascii=odd,  # what is escaped is not for the fast one
        ).encode()
        for user, own, odd in events
    ]
    n = len(payloads)
    stamps = np.full(n, NOW_MS), np.zeros(n, dtype=np.int32), np.arange(n)
    read = Read("t", payloads, *stamps, [Span(0, 0, n)])
    batch, letters = Decoder(EventRules(salt=salt))(read)
    assert not letters
    return batch.event_hash.tolist()


@given(texts, texts, st.integers(0, 2**63 - 1))
def test_both_decoders_give_the_same_hash(user, own, salt):
    users, ids = hash_texts([user]), hash_texts([own])
    (expected,) = event_hashes(users, ids, salt).tolist()
    assert hashes_of([(user, own, False), (user, own, True)], salt) == [expected] * 2
    if not salt:
        assert expected == int(combine(users, ids)[0])


def test_an_event_cannot_be_made_to_be_taken_for_another_users():
    ann, order, mallory = (int(h) for h in hash_texts(["ann", "order-4711", "mallory"]))
    made_up = event_id_against(ann, order, mallory)
    events = [("ann", "order-4711", False), ("mallory", made_up, False)]
    first, second = hashes_of(events, salt=0)
    assert first == second
    for salt in (1, 2**40 + 7, 2**63 - 1):
        first, second = hashes_of(events, salt)
        assert first != second
