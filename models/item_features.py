"""What describes an item, as hashed features: a few dozen numbers and weights per item.

Words of the title say most; the three letters at every place of a word let words of one stem meet;
a category counts with all that stands above it (``home.kitchen.mugs`` lies in ``home.kitchen`` and
``home``). Features are known by hash alone (Weinberger et al., ICML 2009), in so many buckets that
two seldom share one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.catalog import Facts
from events.compiled import compiled, step
from events.texts import Texts, combined, hash_at
from events.words import place_of

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

FEATURES: Final = 48
"""Kept per item: category, brand, tags, price and words first, then as many letters as fit."""
BUCKETS: Final = 1 << 18
NO_FEATURE: Final = -1

_WORD, _LETTERS, _CATEGORY, _BRAND, _TAG, _PRICE = range(6)
_WEIGHTS: Final = np.array([1.0, 0.3, 1.0, 1.0, 1.0, 0.5], dtype=np.float32)
_SPACE, _DOT, _SLASH, _GREATER, _NEW_LINE = 32, 46, 47, 62, 10


def features(facts: Facts) -> tuple[I32, F32]:
    """The features of m items, int32[m, FEATURES], and their weights, float32[m, FEATURES].

    >>> from events.catalog import read_facts
    >>> from events.schema import EventRules
    >>> facts, _ = read_facts([
    ...     (b"a", b'{"title": "Blue mugs", "brand": "Acme"}'),
    ...     (b"b", b'{"title": "A blue mug", "brand": "ACME"}'),
    ... ], EventRules())
    >>> found, _ = features(facts)
    >>> a, b = (set(row[row >= 0].tolist()) for row in found)
    >>> len(a), len(b), len(a & b)  # blue, its letters, mu and ug of mug, the brand
    (11, 12, 8)
    """
    n = len(facts)
    buckets = np.full((n, FEATURES), NO_FEATURE, dtype=np.int32)
    weights = np.zeros((n, FEATURES), dtype=np.float32)
    titles = Texts.of([None if t is None else plain(t) for t in facts.titles.tolist()])
    categories, brands, tags = map(_folded, (facts.categories, facts.brands, facts.tags))
    _fill(
        categories.words,
        categories.start,
        categories.length,
        brands.words,
        brands.start,
        brands.length,
        tags.words,
        tags.start,
        tags.length,
        titles.words,
        titles.start,
        titles.length,
        facts.price,
        _WEIGHTS,
        buckets,
        weights,
    )
    return buckets, weights


def plain(text: str) -> str:
    """Lower case, words apart by one space, and a space at both ends.

    >>> plain("Winter-Coat  XL")
    ' winter coat xl '
    """
    words = "".join(c if c.isalnum() else " " for c in text.casefold()).split()
    return f" {' '.join(words)} " if words else " "


def _folded(texts: Texts) -> Texts:
    return Texts.of([None if text is None else text.casefold() for text in texts.tolist()])


@step
def _add(kind: int, hashed: Any, n: int, weights: F32, bucket: I32, weight: F32) -> int:
    """One more feature, if there is room and it is not there yet; how many there are."""
    if n >= len(bucket):
        return n
    found = np.int32(combined(np.uint64(kind), hashed) & np.uint64(BUCKETS - 1))
    for k in range(n):
        if bucket[k] == found:
            return n
    bucket[n], weight[n] = found, weights[kind]
    return n + 1


@compiled
def _fill(
    category: U64,
    category_start: I64,
    category_length: I32,
    brand: U64,
    brand_start: I64,
    brand_length: I32,
    tags: U64,
    tags_start: I64,
    tags_length: I32,
    title: U64,
    title_start: I64,
    title_length: I32,
    price: I64,
    weights: F32,
    buckets: I32,
    out: F32,
) -> None:
    low = np.uint64(255)
    for i in range(len(price)):
        n: Any = np.int64(0)  # no literal: a step is compiled anew for each
        own, counts = buckets[i], out[i]
        first, size = category_start[i], category_length[i]
        for k in range(1, size + 1):
            byte = category[first + k] & low if k < size else np.uint64(_DOT)
            if byte in (_DOT, _SLASH, _GREATER):
                n = _add(_CATEGORY, hash_at(place_of(category) + first, k), n, weights, own, counts)
        if brand_length[i] > 0:
            hashed = hash_at(place_of(brand) + brand_start[i], brand_length[i])
            n = _add(_BRAND, hashed, n, weights, own, counts)
        first, size, begin = tags_start[i], tags_length[i], 0
        for k in range(size + 1):
            if k == size or tags[first + k] & low == _NEW_LINE:
                if k > begin:
                    hashed = hash_at(place_of(tags) + first + begin, k - begin)
                    n = _add(_TAG, hashed, n, weights, own, counts)
                begin = k + 1
        if price[i] > 0:
            half_doublings = np.uint64(np.floor(2.0 * np.log2(np.float64(price[i]))))
            n = _add(_PRICE, half_doublings, n, weights, own, counts)
        first, size, begin = title_start[i], title_length[i], 0
        for k in range(max(size, 0)):
            if title[first + k] & low == _SPACE:
                if k > begin:
                    hashed = hash_at(place_of(title) + first + begin, k - begin)
                    n = _add(_WORD, hashed, n, weights, own, counts)
                begin = k + 1
        for k in range(size - 2):
            if title[first + k + 1] & low != _SPACE:
                n = _add(_LETTERS, hash_at(place_of(title) + first + k, 3), n, weights, own, counts)
