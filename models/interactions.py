"""What users did with items, as columns: what items are learned from, and what lanes exchange.

An interaction names no user. It says which item, when and how, and which items the same user had
to do with before. Items are known by the hash of their id; the ids themselves, categories and
prices travel once per block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.hash_index import numbered

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(slots=True, frozen=True)
class Seen:
    """What events say of some items beside their use, m.

    Attributes:
        ids: of the items; each once.
        categories: absent where nothing was said.
        price: of one piece in minor units, int64[m]; 0 where nothing was said.
    """

    ids: Texts
    categories: Texts
    price: I64

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True, frozen=True)
class Interactions:
    """Some interactions, n, in the order they are to be learned.

    Attributes:
        item: the hash of each one's item, uint64[n].
        ts_ms: int64[n].
        type: of event, int8[n].
        before: the user's items before it, the newest first, uint64[n, s]; 0 for none.
        together: what the user bought with it, likewise, uint64[n, t].
        seen: all that is known of the items.
        stay: with the item before, see ``esteem.stay_of``, float32[n].
        rating: of the item, see ``esteem.rating_of``, float32[n].
        label: of the user, a place in ``labels``, int8[n]; -1 for none.
        labels: their names.
        session: the name of the user's session, uint64[n]; 0 for none. None if nobody asks.
        had: the items that the user has since then, this one first, then the newest first,
            uint64[n, h]; all 0 where this one is not new to the user. None if nobody asks.
    """

    item: U64
    ts_ms: I64
    type: I8
    before: U64
    together: U64
    seen: Seen
    stay: F32
    rating: F32
    label: I8
    labels: tuple[str, ...] = ()
    session: U64 | None = None
    had: U64 | None = None

    def __len__(self) -> int:
        return len(self.item)

    def pack(self) -> bytes:
        """As bytes. Hashes stand once; interactions name them by place.

        >>> ids = Texts.of(["a", "b"])
        >>> a, b = ids.hashes().tolist()
        >>> some = Interactions(ids.hashes(), np.array([5, 6]), np.zeros(2, np.int8),
        ...     np.array([[0, 0], [a, 0]], np.uint64), np.zeros((2, 1), np.uint64),
        ...     Seen(ids, Texts.of(["books", None]), np.array([100, 0])),
        ...     np.array([0, 2.5], np.float32), np.full(2, np.nan, np.float32),
        ...     np.array([0, -1], np.int8), ("champions",))
        >>> again = Interactions.unpack(some.pack())
        >>> again.seen.ids.tolist(), again.seen.categories.tolist(), again.ts_ms.tolist()
        (['a', 'b'], ['books', None], [5, 6])
        >>> bool((again.before == some.before).all())
        True
        """
        had = np.empty((len(self), 0), np.uint64) if self.had is None else self.had
        plain = self.item, self.before.reshape(-1), self.together.reshape(-1)
        named = np.concatenate([*plain, had[had != 0]])
        first, place = numbered(named)
        return msgspec.msgpack.encode(
            _Block(
                n=len(self),
                steps=self.before.shape[1],
                hashes=named[first].tobytes(),
                place=place.astype(np.uint32).tobytes(),
                ts=self.ts_ms.tobytes(),
                type=self.type.tobytes(),
                ids=self.seen.ids.tolist(),
                categories=self.seen.categories.tolist(),
                price=self.seen.price.tobytes(),
                stay=self.stay.tobytes(),
                rating=self.rating.tobytes(),
                label=self.label.tobytes(),
                labels=list(self.labels),
                session=None if self.session is None else self.session.tobytes(),
                had=None if self.had is None else _packed_rows(had),
            )
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Interactions:
        """What ``pack`` gave."""
        block = msgspec.msgpack.decode(raw, type=_Block)
        n, steps = block.n, block.steps
        hashes = np.frombuffer(block.hashes, np.uint64)
        named = hashes[np.frombuffer(block.place, np.uint32)]
        had = None
        if block.had is not None:
            width, counts = block.had
            held = np.arange(width) < np.frombuffer(counts, np.uint8)[:, None]
            had = np.zeros((n, width), np.uint64)
            stop = len(named) - np.count_nonzero(held)
            had[held], named = named[stop:], named[:stop]
        item, before, together = named[:n], named[n : n + n * steps], named[n + n * steps :]
        return cls(
            item,
            np.frombuffer(block.ts, np.int64).copy(),  # as loops know them: to be written
            np.frombuffer(block.type, np.int8).copy(),
            before.reshape(n, steps),
            together.reshape(n, -1) if n else together.reshape(0, 0),
            Seen(
                Texts.of(block.ids),
                Texts.of(block.categories),
                np.frombuffer(block.price, np.int64),
            ),
            _numbers(block.stay, n, 0.0),
            _numbers(block.rating, n, np.nan),
            np.frombuffer(block.label or bytes([255]) * n, np.int8).copy(),
            tuple(block.labels),
            None if block.session is None else np.frombuffer(block.session, np.uint64).copy(),
            had,
        )

    @classmethod
    def joined(cls, parts: Sequence[Interactions]) -> Interactions:
        """All of them, one part after another."""
        if len(parts) == 1:
            return parts[0]
        labels = tuple(dict.fromkeys(name for p in parts for name in p.labels))
        return cls(
            np.concatenate([p.item for p in parts]),
            np.concatenate([p.ts_ms for p in parts]),
            np.concatenate([p.type for p in parts]),
            np.concatenate([p.before for p in parts]),
            np.concatenate([p.together for p in parts]),
            _distinct(
                Texts.joined([p.seen.ids for p in parts]),
                Texts.joined([p.seen.categories for p in parts]),
                np.concatenate([p.seen.price for p in parts]),
            ),
            np.concatenate([p.stay for p in parts]),
            np.concatenate([p.rating for p in parts]),
            np.concatenate([_among(labels, p) for p in parts]),
            labels,
            _all_of([p.session for p in parts]),
            _all_of([p.had for p in parts]),
        )


def _among(labels: tuple[str, ...], part: Interactions) -> I8:
    """The labels of some interactions as places among more names, int8[n]."""
    if part.labels == labels:
        return part.label
    places = np.array([*map(labels.index, part.labels), -1], dtype=np.int8)
    return places[part.label]


def seen_of(ids: Texts, categories: Texts, price: I64) -> Seen:
    """What events say of their items, each item once; the last event that says something counts.

    >>> ids, categories = Texts.of(["a", "b", "a"]), Texts.of(["x", None, None])
    >>> seen = seen_of(ids, categories, np.array([5, 0, 7]))
    >>> seen.ids.tolist(), seen.categories.tolist(), seen.price.tolist()
    (['a', 'b'], ['x', None], [7, 0])
    """
    return _distinct(ids, categories, price)


def _distinct(ids: Texts, categories: Texts, price: I64) -> Seen:
    first, which = numbered(ids.hashes())
    said, paid = first.copy(), np.zeros(len(first), dtype=np.int64)
    with_category = np.flatnonzero(categories.present)
    said[which[with_category]] = with_category
    with_price = np.flatnonzero(price > 0)
    paid[which[with_price]] = price[with_price]
    return Seen(ids.take(first), categories.take(said), paid)


def _all_of(columns: Sequence[U64 | None]) -> U64 | None:
    """One after another, if all are there."""
    held = [column for column in columns if column is not None]
    return np.concatenate(held) if len(held) == len(columns) else None


def _numbers(raw: bytes, n: int, missing: float) -> F32:
    """What a block says, float32[n]; the same for all where a former version said nothing."""
    if not raw:
        return np.full(n, missing, dtype=np.float32)
    return np.frombuffer(raw, np.float32).copy()


def _packed_rows(had: U64) -> tuple[int, bytes]:
    """How wide the rows are, and how many items each holds."""
    return had.shape[1], np.count_nonzero(had, axis=1).astype(np.uint8).tobytes()


class _Block(msgspec.Struct, array_like=True):
    n: int
    steps: int
    hashes: bytes
    place: bytes
    ts: bytes
    type: bytes
    ids: list[str | None]
    categories: list[str | None]
    price: bytes
    label: bytes = b""
    labels: list[str] = []
    session: bytes | None = None
    had: tuple[int, bytes] | None = None
    stay: bytes = b""
    rating: bytes = b""
