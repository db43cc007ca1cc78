"""Entries of users: rows of a table that are found by (owner row, 64-bit key).

Orders, cart lines and parked labels all are a few entries per user that come and go. Each kind is
one such table: columns as in ``Table``, an index from owner and key to the entry's slot, slots that
are used again, and the list of every owner's entries. It also keeps what a commit needs: which
entries changed since the last one and which ended, and their form in the store.

In the store an entry is a field of its shard's hash: the owner's serial and the key, 12 bytes. Its
value is a record of fixed layout. Columns that can be worked out again are *transient* and stay
out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from events.texts import Texts
from state.chain import Chain
from state.groups import distinct
from state.hashset import KeyIndex
from state.record import Layout, RecordFormat
from state.table import Column, Table

Bools = NDArray[np.bool_]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_OWN: Final = [
    Column("owner", "i4", -1),
    Column("key", "u8"),
    Column("seq", "i8"),
    Column("dirty", "?"),
]
_FIELD: Final = np.dtype([("serial", "<u4"), ("key", "<u8")])
_NO_VALUES: Final[Mapping[str, Any]] = {}
_ALWAYS_WALKED: Final = 1_000
_STEP_COST: Final = 16
"""A list may have one more entry to be walked for as many in the table as this: a step takes up to
60 ns, a look at any entry 4 ns."""


@dataclass(slots=True, frozen=True)
class Pending:
    """What a commit has to write of a table: removals first, then the entries.

    Attributes:
        slots: entries that changed, ascending, int64[n].
        removed_owners, removed_keys: entries that ended, int64[m] and uint64[m]. One may have
            begun anew and be among ``slots`` too.
    """

    slots: I64
    removed_owners: I64
    removed_keys: U64


class KeyedTable:
    """A table of entries, each found by its owner's row and its key.

    Args:
        columns: what an entry holds beside ``owner``, ``key`` and ``seq`` (the commit it was last
            written with; whoever commits sets it).
        transient: names of columns that are not stored.
        listed: keep a list of each owner's entries, so that ``of`` need not look at all entries.
        found: keep an index, so that entries are found by owner and key; without one whoever adds
            entries knows that they are new.

    >>> orders = KeyedTable([Column("gross", "i8")])
    >>> slots = orders.find_or_add(np.array([3, 5, 3]), np.array([9, 9, 9], np.uint64))
    >>> slots[0] == slots[2], len(orders)
    (np.True_, 2)
    >>> orders["gross"][slots[0]] = 250
    >>> found, place = orders.of(np.array([3]))
    >>> orders["gross"][found].tolist()
    [250]
    """

    def __init__(
        self,
        columns: Sequence[Column],
        transient: Sequence[str] = (),
        *,
        listed: bool = True,
        found: bool = True,
    ) -> None:
        self._table = Table([*_OWN, *columns], together=True)
        self._index = KeyIndex() if found else None
        self._chain = Chain() if listed else None
        self._format = RecordFormat(columns, skip=transient)
        self._free: I64 = np.empty(0, dtype=np.int64)
        self._touched: list[I64] = []
        self._removed: list[tuple[I64, U64]] = []
        self._pending: Pending | None = None

    def __len__(self) -> int:
        return self._table.size - len(self._free)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A whole column, to be indexed with slots; fetch it anew after entries were added."""
        return self._table[name]

    # -- entries ------------------------------------------------------------------------------

    def find(self, owners: I64, keys: U64) -> I64:
        """The slot of each pair, int64[n]; -1 where there is no such entry; of an indexed table."""
        return self._found_by.find(owners, keys)

    def find_or_add(self, owners: I64, keys: U64) -> I64:
        """The slot of each pair, int64[n]; of an indexed table.

        A pair may occur more than once. New entries have the columns' initial values and count as
        changed.
        """
        slots, first = self._found_by.number(owners, keys, self._free, self._table.size)
        if len(first):
            self._begin(slots[first], {"owner": owners[first], "key": keys[first]})
            self.mark(slots[first])
        return slots

    def add(self, owners: I64, keys: U64, **values: Any) -> I64:
        """New entries for distinct pairs of which there is none yet.

        Args:
            owners: int64[n].
            keys: uint64[n].
            values: of columns, [n] or one for all; of a column of rows, [n, width]. Other columns
                get their initial value.

        Returns:
            Their slots, int64[n].
        """
        slots = self._place(owners, keys, values)
        self.mark(slots)
        return slots

    def delete(self, slots: I64) -> None:
        """End entries, each in use and once per call."""
        if len(slots) == 0:
            return
        owners, keys = np.empty(len(slots), dtype=np.int64), np.empty(len(slots), dtype=np.uint64)
        _end(slots, self["owner"], self["key"], self["dirty"], owners, keys)
        if self._index is not None:
            self._index.remove(owners, keys)
        if self._chain is not None:
            self._chain.unlink(owners, slots)
        self._free = np.concatenate([self._free, slots])
        self._removed.append((owners, keys))
        self._pending = None

    def of(self, owners: I64) -> tuple[I64, I64]:
        """All entries of distinct owners (int64[n]), gathered by owner.

        Returns:
            slots: int64[k].
            place: position in ``owners`` of each one's owner, ascending, int64[k].
        """
        if self._chain is None:
            slots, place = self._scan(owners)
        else:
            longest = _ALWAYS_WALKED + self._table.size // _STEP_COST
            slots, place, long = self._chain.walk(owners, longest)
            if len(long) == 0:
                return slots, place
            more, whose = self._scan(owners[long])
            slots, place = np.concatenate([slots, more]), np.concatenate([place, long[whose]])
        order = np.argsort(place, kind="stable")
        return slots[order], place[order]

    def counts(self, owners: I64) -> I64:
        """How many entries each owner has, int64[n]; of a listed table."""
        if self._chain is None:
            raise TypeError("entries are counted by owner only where they are listed by owner")
        return self._chain.counts(owners)

    def live(self) -> I64:
        """The slots in use, ascending."""
        return np.flatnonzero(self["owner"][: self._table.size] >= 0)

    def in_use(self, slots: I64) -> NDArray[np.bool_]:
        """Which slots hold an entry, bool[n]."""
        used: NDArray[np.bool_] = self["owner"][slots] >= 0
        return used

    def bytes_held(self) -> int:
        """Bytes of columns, index and lists, reserve included."""
        parts = [self._table, *(part for part in (self._index, self._chain) if part is not None)]
        return sum(part.bytes_held() for part in parts)

    # -- what a commit needs ------------------------------------------------------------------

    def mark(self, slots: I64) -> None:
        """These entries changed: they belong to the next commit."""
        fresh = np.empty(len(slots), dtype=np.int64)
        if n := _mark(slots, self["dirty"], fresh):
            self._touched.append(fresh[:n])
            self._pending = None

    def pending(self) -> Pending:
        """All that changed since it was last settled."""
        if self._pending is None:
            self._pending = self._look()
        return self._pending

    def _look(self) -> Pending:
        slots = distinct(np.concatenate([np.empty(0, dtype=np.int64), *self._touched]))
        owners = [np.empty(0, dtype=np.int64), *(owners for owners, _ in self._removed)]
        keys = [np.empty(0, dtype=np.uint64), *(keys for _, keys in self._removed)]
        return Pending(slots[self["dirty"][slots]], np.concatenate(owners), np.concatenate(keys))

    def settle(self, done: NDArray[np.bool_] | None = None) -> None:
        """The store has what was pending: of the owner rows in ``done`` (bool by row), or of all.

        Call it before anything else changes.
        """
        pending = self.pending()
        left = np.zeros(len(pending.slots), dtype=np.bool_)
        kept = np.zeros(len(pending.removed_owners), dtype=np.bool_)
        if done is not None:
            left, kept = ~done[self["owner"][pending.slots]], ~done[pending.removed_owners]
        self["dirty"][pending.slots[~left]] = False
        self._touched = [pending.slots[left]]
        self._removed = [(pending.removed_owners[kept], pending.removed_keys[kept])]
        self._pending = None

    # -- form in the store --------------------------------------------------------------------

    def layout(self) -> Layout:
        """The layout of the values, as plain data to be stored beside them."""
        return self._format.layout()

    def pack(
        self, slots: I64, serials: NDArray[np.uint32], texts: Texts | None = None
    ) -> tuple[Texts, Texts]:
        """Fields and values of entries, each value followed by a text if there are any.

        Args:
            slots: of the entries, int64[n].
            serials: the users' column, by row.
            texts: n.
        """
        fields = self.pack_fields(self["owner"][slots], self["key"][slots], serials)
        return fields, self._format.pack(self._table, slots, texts)

    @staticmethod
    def pack_fields(owners: NDArray[np.integer], keys: U64, serials: NDArray[np.uint32]) -> Texts:
        """The fields of entries that need not exist any more."""
        fields = np.empty(len(owners), dtype=_FIELD)
        fields["serial"], fields["key"] = serials[owners], keys
        return Texts.of_size(fields.tobytes(), _FIELD.itemsize)

    def expect(self, count: int) -> None:
        """Make room for so many more entries at once."""
        self._table.expect(count)

    def load(
        self,
        fields: Sequence[bytes],
        values: Sequence[bytes],
        row_of_serial: I64,
        layout: Layout,
        seq: int = 0,
    ) -> I64:
        """Add a shard's stored entries, none of which is in the table; they are not pending.

        Args:
            fields: what ``pack`` gave, n.
            values: what ``pack`` gave, n.
            row_of_serial: the row of each serial of the shard, int64; -1 where there is none.
            layout: the layout that the values were written with.
            seq: the commit they come from.

        Returns:
            Their slots, int64[n].
        """
        stored = np.frombuffer(b"".join(fields), dtype=_FIELD)
        owners = row_of_serial[stored["serial"]]
        if len(owners) and int(owners.min()) < 0:
            serial = int(stored["serial"][int(owners.argmin())])
            raise ValueError(
                f"every stored entry must belong to a stored user, but serial {serial} has none: "
                "the store lost part of the shard; restore it from a copy"
            )
        slots = self._place(owners, stored["key"].astype(np.uint64))
        self._format.unpack(self._table, slots, Texts.of_bytes(values), layout)
        self["seq"][slots] = seq
        return slots

    # -- inside -------------------------------------------------------------------------------

    @property
    def _found_by(self) -> KeyIndex:
        if self._index is None:
            raise TypeError("entries are found by owner and key only where they are indexed")
        return self._index

    def _place(self, owners: I64, keys: U64, values: Mapping[str, Any] = _NO_VALUES) -> I64:
        """Slots for distinct pairs that are not in the table, with these or initial values."""
        slots = self._free[: len(owners)]
        if len(slots) < len(owners):
            size = self._table.size
            more = np.arange(size, size + len(owners) - len(slots))
            slots = np.concatenate([slots, more])
        self._begin(slots, {**values, "owner": owners, "key": keys})
        if self._index is not None:
            self._index.insert(owners, keys, slots)
        return slots

    def _begin(self, slots: I64, values: Mapping[str, Any]) -> None:
        """Let entries begin in the next free slots, with these or initial values."""
        again = min(len(slots), len(self._free))
        self._free = self._free[again:]
        if again:
            for column in self._table:
                if column.name not in values:
                    self[column.name][slots[:again]] = column.initial
        if again < len(slots):
            self._table.grow(len(slots) - again)
        for name, value in values.items():
            if self[name].ndim == 2:
                _put_rows(slots, value, self[name])
            else:
                self[name][slots] = value
        if self._chain is not None:
            self._chain.link(values["owner"], slots)

    def _scan(self, owners: I64) -> tuple[I64, I64]:
        """The entries of owners whose lists are too long to walk: one look at every entry."""
        place_of = np.full(int(owners.max()) + 2, -1, dtype=np.int64)
        place_of[owners] = np.arange(len(owners))
        owner = self["owner"][: self._table.size]
        # rows above the highest asked for, and free slots (owner -1), read the last place: none
        place = place_of[np.minimum(owner, len(place_of) - 1)]
        slots = np.flatnonzero(place >= 0)
        return slots, place[slots]


def record_bytes(layout: Layout) -> int:
    """The length of a value that was written with this layout."""
    return sum(np.dtype((kind, tuple(shape))).itemsize for _, kind, shape in layout)


@compiled
def _put_rows(slots: I64, values: NDArray[Any], column: NDArray[Any]) -> None:
    for i in range(len(slots)):
        for j in range(values.shape[1]):
            column[slots[i], j] = values[i, j]


@compiled
def _mark(slots: I64, dirty: Bools, fresh: I64) -> int:
    """Make entries dirty; how many were clean, and which."""
    n = 0
    for k in range(len(slots)):
        if not dirty[slots[k]]:
            dirty[slots[k]] = True
            fresh[n] = slots[k]
            n += 1
    return n


@compiled
def _end(slots: I64, owner: I32, key: U64, dirty: Bools, owners: I64, keys: U64) -> None:
    """Take entries out of use; whose they were, and under which keys."""
    for k in range(len(slots)):
        owners[k], keys[k] = owner[slots[k]], key[slots[k]]
        owner[slots[k]], dirty[slots[k]] = -1, False
