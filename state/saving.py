"""What a lane writes and reads: its memory as shard commits, and stored shards as its memory.

A user's state record holds the persisted columns at fixed width, followed by the texts of the
session (device, country), which are codes in memory and mean nothing outside this process. Columns
that can be worked out again from the side tables are left out.

Users who were forgotten leave the store in the commit that tells their exits. Their shard has
another **epoch** from then on, as after a restart: who comes back counts changes from one again,
and is newer all the same (decision 12).

Which rows, entries and ids a store lacks is known by sequence: each row and entry carries that of
its last commit. Writing forward to a store that came back older is therefore the same as an
ordinary commit, with more rows. The segments' sets carry no sequence: who is in a set is said again
of each of these rows, and the sets of segments that are no more are written as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.changes import Gone, encode_entry
from state.commit import Found, ShardCommit, StoredShard, Writes
from state.commit_columns import Columns
from state.decisions import Records
from state.groups import begins
from state.id_blocks import unpack_ids
from state.lane_users import LaneUsers
from state.portraits import Portraits
from state.positions import Positions
from state.recommending import Lists
from state.record import Layout
from state.sessions import COUNTRY, DEVICE
from state.text_index import TextIndex
from state.times import NEVER_MS

I64 = NDArray[np.int64]

_TEXTS: Final = (DEVICE, COUNTRY)
_FORMS: Final = ("layout", "segments", "definitions", "measures")
_PLACES: Final = ("positions", "buckets", "floor")
"""Of a commit record: how far the log was taken in, and what of it is known against duplicates."""
Layouts = dict[str, Layout]


class Saver:
    """Turns one lane into commits and back.

    Args:
        lane: whose memory it is.
        portraits: of its users.
    """

    def __init__(self, lane: LaneUsers, portraits: Portraits) -> None:
        self._lane = lane
        self._tables, self._forms = lane.side_parts(), lane.forms
        self._columns = Columns(lane, self._forms, self._tables, portraits)
        self._seq = dict.fromkeys(lane.shards, 0)
        self._epoch = dict.fromkeys(lane.shards, 0)
        self._fenced = dict.fromkeys(lane.shards, 0)
        self._saved_positions: dict[int, bytes] = {}
        self._saved_forms: dict[int, dict[str, bytes]] = {}

    @property
    def side_tables(self) -> tuple[str, ...]:
        """Names of the tables beside the users' states."""
        return tuple(self._tables)

    def sequences(self) -> dict[int, int]:
        """The sequence of each shard's last commit."""
        return dict(self._seq)

    def outrank(self, epochs: Mapping[int, int]) -> None:
        """The next commits are of higher epochs than these, of some shards."""
        for shard, epoch in epochs.items():
            self._epoch[shard] = max(self._epoch[shard], epoch + 1)

    # -- out ----------------------------------------------------------------------------------

    def collect(
        self, rows: I64, lists: Lists, *, heartbeat: bool, stored: Mapping[int, int]
    ) -> list[ShardCommit]:
        """One commit per shard that has something to write.

        Args:
            rows: those changed, ascending, int64[n].
            lists: of items.
            heartbeat: also for shards whose positions alone have moved.
            stored: sequences found in the store.
        """
        lane, shard_of = self._lane, self._lane.table["shard"]
        next_seq = {shard: seq + 1 for shard, seq in self._seq.items()}
        seq_of = self._by_number(next_seq)
        changes = lane.decider.waiting.records(shard_of, next_seq, self._epoch)
        examples = {} if lane.learner is None else lane.learner.outgoing(shard_of)
        left = self._by_shard(lane.users.left)
        writes = self._columns.changed(rows, lists, seq_of)
        wanted = {*writes.shards, *examples, *left}
        wanted |= {shard for shard, seq in stored.items() if seq < self._seq[shard]}
        if heartbeat:
            positions = zip(lane.shards, lane.positions.encoded(lane.shards), strict=True)
            wanted |= {s for s, now in positions if now != self._saved_positions.get(s)}
        commits = self._begun(sorted(wanted), writes, forgets=left.keys())
        for commit in commits:
            shard = commit.shard
            commit.examples = examples.get(shard, b"")
            told = self._add_gone(commit, left[shard]) if shard in left else []
            if shard in changes or told:
                _add_changes(commit, changes.get(shard), told)
        return commits

    def settle(self, commits: Sequence[ShardCommit]) -> None:
        """These are stored: all that was collected at once."""
        lane = self._lane
        self._seq |= {commit.shard: commit.seq for commit in commits}
        for commit in commits:
            self._epoch[commit.shard] += bool(commit.gone)
            self._saved_positions[commit.shard] = commit.record["positions"]
            if "layout" in commit.record:
                self._saved_forms[commit.shard] = _forms_in(commit.record)
        if commits:
            lane.counters.committed += commits[0].writes.count("profile")
            lane.dedup.settle([commit.shard for commit in commits])
        seq_of = self._by_number(self._seq)
        for side in self._tables.values():
            entries = side.entries
            slots = entries.pending().slots
            entries["seq"][slots] = seq_of[lane.table["shard"][entries["owner"][slots]]]
            entries.settle()
        for kind, count in lane.decider.waiting.counts().items():
            lane.counters.changes[kind] += count
        lane.decider.waiting.clear()
        lane.users.free()
        if lane.learner is not None:
            lane.learner.settle()

    def forward(self, commit: ShardCommit, found: Found) -> ShardCommit:
        """All of a shard that is newer than what was found, with what ``commit`` was to write.

        Args:
            commit: the commit that the store refused as not following on.
            found: what it holds, of which some may have ended.
        """
        lane, shard, seq = self._lane, commit.shard, commit.seq
        have, stored = found.seq, found.fields
        table = lane.table
        of_shard = table["shard"][: table.size] == shard
        newer = of_shard & (table["seq"][: table.size] > have)
        newer[lane.users.ids.find(commit.users)] = True
        rows = np.flatnonzero(newer)
        writes = self._columns.newer(rows, lane.lists(rows), shard, seq, have, stored)
        (out,) = self._begun([shard], writes, forgets=[shard] if commit.gone else (), have=have)
        out.seq, out.changes, out.change_count = seq, commit.changes, commit.change_count
        out.examples = commit.examples
        listed = out.record["buckets"].decode().split()
        out.dedup_dropped = sorted({*found.buckets, *out.dedup_dropped} - set(map(int, listed)))
        # some of those it holds were forgotten since, and some of these have come back
        strangers = _unknown(lane.users.ids, stored["state"])
        out.gone = [*strangers, *commit.gone, *lane.users.ids.texts(rows).bytes_list()]
        self._add_memberships(out, rows)
        self._add_former(out, np.flatnonzero(of_shard))
        for name in lane.decider.plan.names if strangers else ():
            out.left[name] = [*out.left.get(name, ()), *strangers]
        return out

    def _begun(
        self,
        shards: Sequence[int],
        writes: Writes,
        *,
        forgets: Collection[int],
        have: int | None = None,
    ) -> list[ShardCommit]:
        """Commits with these columns, and with the shards' positions and clock.

        Args:
            shards: ascending.
            writes: their columns.
            forgets: which of them have users who leave.
            have: the sequence on which they follow; None for that of the last commit.
        """
        lane, forms = self._lane, self._forms.record()
        clock, ended = str(lane.clock.now_ms).encode(), lane.dedup.ended(shards)
        alike: dict[tuple[bytes, ...], dict[str, bytes]] = {}
        out = []
        floors = lane.dedup.floors(shards, lane.clock.newest_ms)
        places = lane.positions.encoded(shards), lane.dedup.listed(shards), floors
        for shard, *place in zip(shards, *places, strict=True):
            record = alike.get(tuple(place))
            if record is None:
                record = dict(zip(_PLACES, place, strict=True)) | {"clock": clock}
                alike[tuple(place)] = record
            own = lane.measures.experiments.record(shard)
            epoch, seq = self._epoch[shard] + (shard in forgets), self._seq[shard]
            if epoch != self._fenced[shard]:
                own["epoch"] = str(epoch).encode()
            if self._saved_forms.get(shard) != forms or have is not None:
                own |= forms
            out.append(
                ShardCommit(
                    shard,
                    seq + 1,
                    seq if have is None else have,
                    record | own if own else record,
                    writes=writes,
                    dedup_dropped=ended.get(shard, ()),
                )
            )
        return out

    def _add_gone(self, commit: ShardCommit, rows: I64) -> list[tuple[bytes, bytes]]:
        """Users who have left; what that tells the memberships topic of those it may know."""
        lane, shard = self._lane, commit.shard
        commit.gone = list(dict.fromkeys(lane.users.ids.texts(rows).bytes_list()))
        at_ms, epoch = lane.clock.now_ms, self._epoch[shard]
        return [
            Gone(user_id=name.decode(), epoch=epoch, n=n, ts=at_ms).record()
            for name in _unknown(lane.users.ids, commit.gone)
            if (n := lane.users.counted(name))
        ]

    def _by_number(self, seqs: Mapping[int, int]) -> I64:
        """What shards have, by their number."""
        out = np.zeros(max(self._lane.shards) + 1, dtype=np.int64)
        out[list(seqs)] = list(seqs.values())
        return out

    def _add_memberships(self, commit: ShardCommit, rows: I64) -> None:
        """All memberships of some rows, whatever changed; of stale ones those that were told."""
        lane, users = self._lane, self._lane.users.ids.texts(rows).bytes_list()
        held, names = lane.decider.held(rows), lane.decider.plan.names
        inside = [set(held.index[held.segment == place].tolist()) for place in range(len(names))]
        told = lane.redefiner.told(rows)
        for index in np.flatnonzero(np.isin(rows, list(told))).tolist():
            for name, places in zip(names, inside, strict=True):
                (places.add if name in told[int(rows[index])] else places.discard)(index)
        for name, places in zip(names, inside, strict=True):
            sides = (commit.joined, places), (commit.left, set(range(len(users))) - places)
            for side, indices in sides:
                if indices:
                    side[name] = [users[i] for i in sorted(indices)]

    def _add_former(self, commit: ShardCommit, rows: I64) -> None:
        """The sets of segments that are no more: only stale rows of the shard are in them."""
        lane = self._lane
        former = lane.redefiner.names - set(lane.decider.plan.names)
        commit.former = sorted(former)
        told = lane.redefiner.told(rows) if former else {}
        for row, names in told.items():
            for name in former & set(names):
                commit.joined.setdefault(name, []).append(lane.users.ids[row].encode())

    def _by_shard(self, rows: I64) -> dict[int, I64]:
        """Rows by their shard."""
        order, shards, bounds = _grouped(self._lane.table["shard"][rows])
        rows = rows[order]
        return {s: rows[a:b] for s, (a, b) in zip(shards, pairwise(bounds), strict=True)}

    # -- in -----------------------------------------------------------------------------------

    def restore(self, stored: StoredShard) -> None:
        """Put a stored shard into the lane's memory."""
        lane, shard = self._lane, stored.shard
        self._seq[shard] = stored.seq
        self._epoch[shard] = self._fenced[shard] = stored.epoch
        positions = stored.record.get("positions")
        lane.positions.restore(shard, Positions.decode(positions))
        lane.clock.restore(int(stored.record.get("clock", NEVER_MS)))
        self._saved_positions[shard] = positions or b"{}"
        if positions is None or "floor" in stored.record:  # else by a version that kept none
            lane.dedup.restore(shard, int(stored.record.get("floor", NEVER_MS)))
        for bucket, block in stored.dedup.items():
            lane.dedup.load(shard, bucket, unpack_ids(block, stored.seq))
        if not stored.users:
            return
        layouts = msgspec.json.decode(stored.record["layout"], type=Layouts)
        rows = self._restore_users(stored)
        serials = lane.table["serial"][rows]
        row_of_serial = np.full(int(serials.max()) + 1, -1, dtype=np.int64)
        row_of_serial[serials] = rows
        alike = self._forms.measured_alike(stored.record) and self._forms.fits(stored.record)
        for name, (fields, values) in stored.tables.items():
            if not fields:
                continue
            side, layout = self._tables[name], layouts[name]
            slots = side.form.load(fields, values, row_of_serial, layout, stored.seq)
            if not alike:  # one layout holds for all entries of a shard, so all are written anew
                side.entries.mark(slots)
        if not self._forms.measured_alike(stored.record):
            lane.measured_otherwise(rows)
        if not alike:
            lane.touch(rows)
        elif "definitions" in stored.record:
            self._saved_forms[shard] = _forms_in(stored.record)

    def reread(self, rows: I64) -> None:
        """Write to some rows what their records say, which is what they have."""
        states = self._forms.pack(rows, self._columns.texts(rows))
        self._read(rows, states, self._forms.record())

    def _restore_users(self, stored: StoredShard) -> I64:
        lane = self._lane
        rows = lane.users.restore(stored.shard, Texts.of_bytes(stored.users))
        self._read(rows, Texts.of_bytes(stored.states), stored.record)
        lane.users.restored(stored.shard, lane.table["serial"][rows])
        lane.table["seq"][rows] = stored.seq
        return rows

    def _read(self, rows: I64, states: Texts, record: Mapping[str, bytes]) -> None:
        texts = self._forms.unpack(rows, states, record)
        codes = self._lane.measures.session_codes(texts)
        for name, column in zip(_TEXTS, codes, strict=True):
            self._lane.table[name][rows] = column


def _forms_in(record: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a commit record says of the forms of state records."""
    return {name: record.get(name, b"") for name in _FORMS}


def _grouped(shard: NDArray[np.integer]) -> tuple[I64, list[int], list[int]]:
    """The order that groups entries by shard, the shards, and the bounds between their entries."""
    order = np.argsort(shard, kind="stable")
    shard = shard[order]
    first = begins(shard)
    return order, shard[first].tolist(), [*first.tolist(), len(order)]


def _add_changes(
    commit: ShardCommit, records: Records | None, gone: list[tuple[bytes, bytes]]
) -> None:
    """Change records, and what they come to in the segments' sets; then who is gone."""
    entry: list[tuple[bytes, bytes]] = []
    if records is not None:
        entry = list(zip(records.keys, records.values, strict=True))
        named = zip(records.segment, records.keys, strict=True)
        for (segment, user), entered in dict(zip(named, records.entered, strict=True)).items():
            side = commit.joined if entered else commit.left
            side.setdefault(segment, []).append(user)
    commit.changes, commit.change_count = encode_entry([*entry, *gone]), len(entry)


def _unknown(ids: TextIndex, names: Sequence[bytes]) -> list[bytes]:
    """Those of some users who are not there."""
    found = ids.find(Texts.of_bytes(names)) if names else ()
    return [name for name, row in zip(names, found, strict=True) if row < 0]
