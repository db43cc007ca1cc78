"""What a commit has in columns: users with their documents, side tables, ids of events.

All of it in the order of the shards, so that each shard's part is a stretch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from events.words import PAD
from state.commit import Operation, Writes
from state.forms import Forms
from state.groups import begins, distinct
from state.id_blocks import ID_BYTES, pack_ids
from state.lane_users import LaneUsers
from state.portraits import Portraits
from state.recommending import Lists
from state.sessions import COUNTRY, DEVICE
from state.side import SideTable

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_NONE: Final = Texts.absent(0)
_NOBODY: Final = np.empty(0, dtype=np.int64)


class Columns:
    """Makes the columns of one lane's commits.

    Args:
        lane: whose memory it is.
        forms: of the users' state records.
        tables: the side tables by name.
        portraits: of the users.
    """

    def __init__(
        self,
        lane: LaneUsers,
        forms: Forms,
        tables: Mapping[str, SideTable],
        portraits: Portraits,
    ) -> None:
        self._lane, self._forms, self._tables = lane, forms, tables
        self._portraits = portraits

    def changed(self, rows: I64, lists: Lists, seq_of: I64) -> Writes:
        """What has changed since the last commit.

        Args:
            rows: users who changed, ascending, int64[n].
            lists: of items, of these users or of others, whose states tell of them.
            seq_of: the sequence of each shard's commit, int64 by the number of the shard.
        """
        out = [*self._users(rows, lists, seq_of), self._listed(lists)]
        for name, side in self._tables.items():
            pending = side.entries.pending()
            out.append(self._ended(name, side, pending.removed_owners, pending.removed_keys))
            out.append(self._entries(name, side, pending.slots))
        taken = self._lane.dedup.taken()
        out += [_ids(each.bucket, each.shard, each.hashes, seq_of) for each in taken]
        return _writes(out)

    def newer(
        self,
        rows: I64,
        lists: Lists,
        shard: int,
        seq: int,
        have: int,
        stored: Mapping[str, list[bytes]],
    ) -> Writes:
        """What a store lacks of a shard.

        Args:
            rows: the users, ascending, int64[n].
            lists: of items.
            shard: which.
            seq: of its commit.
            have: the sequence that the store holds.
            stored: the fields it holds of each side table, of which some may have ended.
        """
        lane = self._lane
        seq_of = np.full(shard + 1, seq, dtype=np.int64)
        out = [*self._users(rows, lists, seq_of), self._listed(lists)]
        for name, side in self._tables.items():
            table = side.entries
            live = table.live()
            live = live[lane.table["shard"][table["owner"][live]] == shard]
            owners, keys = table["owner"][live], table["key"][live]
            known = set(table.pack_fields(owners, keys, lane.table["serial"]).bytes_list())
            gone = [field for field in stored[name] if field not in known]
            out.append(Operation("HDEL", name, np.full(len(gone), shard), Texts.of_bytes(gone)))
            newer = live[(table["seq"][live] > have) | table["dirty"][live]]
            out.append(self._entries(name, side, newer))
        for bucket, hashes in lane.dedup.remembered(shard).items():
            out.append(_ids(bucket, np.full(len(hashes), shard), hashes, seq_of))
        return _writes(out)

    def texts(self, rows: I64) -> Texts:
        """Device and country of each row, as they follow the record."""
        codes = [self._lane.table[name][rows].astype(np.int64) for name in (DEVICE, COUNTRY)]
        pairs, which = np.unique((codes[0] << 32) + codes[1] + 1, return_inverse=True)
        texts = self._lane.measures.session_texts
        known = [texts(pair >> 32, (pair & 0xFFFFFFFF) - 1) for pair in pairs.tolist()]
        return Texts.of_bytes(known).take(which)

    def _users(self, rows: I64, lists: Lists, seq_of: I64) -> list[Operation]:
        """Profiles and states; of ascending rows, because cells are read from front to back."""
        lane = self._lane
        told = distinct(np.concatenate([rows, lists.rows])) if len(lists.rows) else rows
        lane.table["seq"][told] = seq_of[lane.table["shard"][told]]
        out = []
        if len(rows):
            out.append(self._documents("profile", rows, self._portraits.encode(rows)))
        if len(told):
            states = self._forms.pack(told, self.texts(told))
            out.append(self._documents("state", told, states))
        return out

    def _documents(self, kind: str, rows: I64, documents: Texts) -> Operation:
        """One document for each of some users."""
        shard, order = self._by_shard(rows)
        users = self._lane.users.ids.texts(rows[order])
        return Operation("HSET", kind, shard, users, documents.take(order))

    def _listed(self, lists: Lists) -> Operation:
        """New lists of items."""
        return self._documents("candidates", lists.rows, lists.documents)

    def _ended(self, name: str, side: SideTable, owners: I64, keys: U64) -> Operation:
        """Entries of a side table that are no more."""
        if not len(owners):
            return Operation("HDEL", name, _NOBODY, _NONE)
        shard, order = self._by_shard(owners)
        serials = self._lane.table["serial"]
        gone = side.entries.pack_fields(owners[order], keys[order], serials)
        return Operation("HDEL", name, shard, gone)

    def _entries(self, name: str, side: SideTable, slots: I64) -> Operation:
        """Entries of a side table."""
        if not len(slots):
            return Operation("HSET", name, _NOBODY, _NONE, _NONE)
        shard, order = self._by_shard(side.entries["owner"][slots])
        packed = side.form.pack(slots[order], self._lane.table["serial"])
        return Operation("HSET", name, shard, *packed)

    def _by_shard(self, rows: NDArray[np.integer]) -> tuple[I64, I64]:
        """The shards of some rows, ascending, and the order that makes them so."""
        shard = self._lane.table["shard"][rows]
        order = np.argsort(shard, kind="stable")  # 16 bits: a radix sort
        return shard[order].astype(np.int64), order


def _writes(operations: list[Operation]) -> Writes:
    return Writes([each for each in operations if len(each.shard)])


def _ids(bucket: int, shard: I64, hashes: U64, seq_of: I64) -> Operation:
    """Ids of one bucket, in the order of their shards: each appends them in a block."""
    first = begins(shard)
    size = np.diff(first, append=len(shard)).astype(np.int32) * np.int32(ID_BYTES)
    blocks = Texts(pack_ids(hashes, seq_of[shard]) + PAD, first * ID_BYTES, size)
    return Operation("APPEND", "dedup", shard[first], blocks, rest=str(bucket))
