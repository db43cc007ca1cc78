"""Interactions as bytes and back, joined, and what is seen of items."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from events.texts import Texts
from models.interactions import Interactions, Seen, seen_of

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)
prices = st.sampled_from([0, 0, 1, 5, 10**12])


@st.composite
def some_interactions(draw, steps=None, baskets=None):
    ids = draw(st.lists(names, min_size=1, max_size=8, unique=True))
    categories = [draw(st.none() | names) for _ in ids]
    price = [draw(prices) for _ in ids]
    texts = Texts.of(ids)
    known = np.append(texts.hashes(), np.array([0, 1, 2**64 - 1], np.uint64))
    n = draw(st.integers(0, 12))
    steps = draw(st.integers(0, 4)) if steps is None else steps
    baskets = draw(st.integers(0, 4)) if baskets is None else baskets
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Interactions(
        rng.choice(texts.hashes(), n),
        rng.integers(-(2**60), 2**60, n),
        rng.integers(0, 15, n).astype(np.int8),
        rng.choice(known, (n, steps)),
        rng.choice(known, (n, baskets)),
        Seen(texts, Texts.of(categories), np.array(price)),
        rng.random(n).astype(np.float32),
        rng.integers(-5, 5, n).astype(np.float32),
        rng.integers(-1, 3, n).astype(np.int8),
        tuple(rng.permutation(["champions", "promising", "at_risk"]).tolist()),
        session=rng.choice(known, n) if draw(st.booleans()) else None,
        had=some_had(rng, n, texts.hashes(), draw(st.none() | st.just(3))),
    )


def some_had(rng, n, known, width):
    """What users had: full rows, empty ones and those between, or nothing at all."""
    if width is None:
        return None
    held = np.arange(width) < rng.integers(0, width + 1, n)[:, None]
    return np.where(held, rng.choice(known[known > 0], (n, width)), np.uint64(0))


def plain(some):
    """All of it as lists."""
    seen = some.seen
    return (
        *(some.item.tolist(), some.ts_ms.tolist(), some.type.tolist()),
        *(some.before.tolist(), some.together.tolist()),
        *(some.stay.tolist(), some.rating.tolist()),
        [None if k < 0 else some.labels[k] for k in some.label.tolist()],
        *(None if x is None else x.tolist() for x in (some.session, some.had)),
        *(seen.ids.tolist(), seen.categories.tolist(), seen.price.tolist()),
    )


@given(some_interactions())
@settings(max_examples=200)
def test_what_is_packed_comes_back(some):
    again = Interactions.unpack(some.pack())
    assert plain(again) == plain(some)
    assert again.item.dtype == again.before.dtype == again.together.dtype == np.uint64
    assert again.type.dtype == np.int8
    if len(some):
        assert again.before.shape == some.before.shape
        assert again.together.shape == some.together.shape


@given(some_interactions())
@settings(max_examples=50)
def test_what_was_unpacked_can_be_written_like_what_was_not(some):
    """Loops are compiled for arrays that are, or are not, to be written: here always the same."""
    again = Interactions.unpack(some.pack())
    for name in ("item", "ts_ms", "type", "session", "had"):
        one, other = getattr(some, name), getattr(again, name)
        if one is None:
            assert other is None
            continue
        assert one.flags.writeable == other.flags.writeable


@given(st.lists(some_interactions(steps=3, baskets=2), min_size=1, max_size=5))
@settings(max_examples=100)
def test_parts_are_joined_in_order_and_each_item_is_described_once(parts):
    joined = Interactions.joined(parts)
    lists = [plain(part) for part in parts]
    for place in range(8):
        assert plain(joined)[place] == [x for part in lists for x in part[place]]
    for place in (8, 9):
        said = [part[place] for part in lists]
        everything = None if None in said else [x for part in said for x in part]
        assert plain(joined)[place] == everything
    seen = naive_seen([x for part in lists for x in zip(*part[10:], strict=True)])
    found = zip(*plain(joined)[10:], strict=True)
    assert {name: (category, price) for name, category, price in found} == seen
    if len(parts) > 1:
        assert joined.seen.ids.tolist() == list(seen)


def naive_seen(events):
    """Each item's last known category and price, in the order of first sight."""
    out = {}
    for name, category, price in events:
        category_was, price_was = out.get(name, (None, 0))
        out[name] = (category_was if category is None else category, price or price_was)
    return out


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "é" * 64, "d"]), st.none() | names, prices)))
@settings(max_examples=200)
def test_the_last_that_says_something_of_an_item_counts(events):
    ids, categories, price = zip(*events, strict=True) if events else ((), (), ())
    seen = seen_of(Texts.of(ids), Texts.of(categories), np.array(price, dtype=np.int64))
    found = zip(seen.ids.tolist(), seen.categories.tolist(), seen.price.tolist(), strict=True)
    assert {name: (category, paid) for name, category, paid in found} == naive_seen(events)
    assert seen.ids.tolist() == list(naive_seen(events))
    assert len(seen) == len(naive_seen(events))
