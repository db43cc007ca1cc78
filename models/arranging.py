"""The last word on a list: what has a place in it, and how much of one category it may hold.

Candidates come in their order, more of them than a list holds. Pinned items take their places,
unless they are blocked or the user has just seen or lately bought them; the rest fills up from the
front, each category up to its cap. A pinned item counts for its category and is not itself held
back by the cap.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import allocating
from models.candidates import UNRANKED, Candidates
from models.item_plan import SOURCES
from models.items import ItemTable
from models.ruling import Pins

Bools = NDArray[np.bool_]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

PINNED: Final = len(SOURCES)
"""The source of an item that a rule has put there."""
SAID: Final = (*SOURCES, "pinned")
"""What a candidate's source is called."""


def arranged(
    found: Candidates,
    items: ItemTable,
    recent: I64,
    bought: I64,
    pins: Pins,
    length: int,
    per_category: int,
) -> Candidates:
    """Lists of at most ``length`` items.

    Args:
        found: the candidates of n users, the best first.
        items: what is known of them.
        recent: rows of each user's items, as in ``Gatherer.gather``.
        bought: rows of what each has bought, likewise.
        pins: items with a place in every list.
        length: most items in a list.
        per_category: most of one category; 0 for any number.
    """
    n, sources = len(found.item), found.ranks.shape[2]
    out = Candidates(
        np.full((n, length), -1, dtype=np.int32),
        np.zeros((n, length), dtype=np.float32),
        np.zeros((n, length), dtype=np.uint8),
        np.full((n, length), -1, dtype=np.int32),
        np.full((n, length, sources), UNRANKED, dtype=np.uint8),
        np.zeros(n, dtype=np.int64),
    )
    rows = items.find(pins.items)
    known = (rows >= 0) & (pins.places < length)
    known[known] = ~items.table["blocked"][rows[known]]
    pinned = np.zeros((n, length), dtype=np.bool_)
    at = _chosen(
        found.item,
        found.count,
        items.table["category"],
        recent,
        bought,
        rows[known],
        pins.places[known],
        per_category or length,
        len(items.categories),
        out.item,
        out.count,
        pinned,
    )
    user, place = np.nonzero(at >= 0)
    held = at[user, place]
    for new, old in (
        (out.score, found.score),
        (out.source, found.source),
        (out.because, found.because),
        (out.ranks, found.ranks),
    ):
        new[user, place] = old[user, held]
    out.source[pinned], out.because[pinned] = PINNED, -1
    return out


@allocating
def _chosen(
    item: I32,
    count: I64,
    category: I32,
    recent: I64,
    bought: I64,
    pins: I64,
    places: I64,
    cap: int,
    categories: int,
    out_item: I32,
    out_count: I64,
    pinned: Bools,
) -> I64:
    """Fill lists; where each item stood among the candidates, -1 for those that did not."""
    length = out_item.shape[1]
    at = np.full(out_item.shape, -1, dtype=np.int64)
    many = np.zeros(categories + 1, dtype=np.int64)
    fits = np.zeros(len(pins), dtype=np.bool_)
    for i in range(len(item)):
        many[:] = 0
        for p in range(len(pins)):
            fits[p] = recent.shape[1] == 0 or recent[i, 0] != pins[p]
            for k in range(bought.shape[1]):
                fits[p] &= bought[i, k] != pins[p]
            if fits[p]:
                many[category[pins[p]]] += 1
        n, k, p = 0, 0, 0
        while n < length:
            while p < len(pins) and not fits[p]:
                p += 1
            if p < len(pins) and (places[p] <= n or k >= count[i]):
                out_item[i, n], pinned[i, n] = pins[p], True
                for other in range(count[i]):
                    if item[i, other] == pins[p]:
                        at[i, n] = other
                p += 1
                n += 1
                continue
            if k >= count[i]:
                break
            row = item[i, k]
            k += 1
            taken = False
            for other in range(len(pins)):
                taken |= fits[other] and pins[other] == row
            kind = category[row]
            if taken or (kind >= 0 and many[kind] >= cap):
                continue
            many[kind] += 1
            out_item[i, n], at[i, n] = row, k - 1
            n += 1
        out_count[i] = n
    return at
