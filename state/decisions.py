"""What was decided and waits for the commit that makes it public.

Decisions are kept as they come out of an evaluation, as columns, and become change records all at
once when their shard is committed, because only then they have an id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.changes import Cause, Kind, Undated
from state.packing import Form, Slot
from state.text_index import TextIndex

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

_ACTIONS: Final = ("exited", "entered")
_YES_NO: Final = Texts.of(["false", "true"])
_FORM: Final = (
    *(b'{"id":"', Slot("epoch", "digits"), b"-", Slot("shard", "raw"), b"-"),
    *(Slot("seq", "digits"), b"-", Slot("place", "digits"), b'","user_id":'),
    *(Slot("user_id", "quoted"), b',"segment":', Slot("segment", "quoted")),
    *(b',"action":', Slot("action", "quoted"), b',"ts":', Slot("ts", "digits")),
    *(b',"decided_at":', Slot("decided_at", "digits"), b',"version":', Slot("version", "digits")),
    *(b',"epoch":', Slot("epoch", "digits"), b',"n":', Slot("n", "digits")),
    *(b',"segments":', Slot("segments", "raw"), b',"cause":{"kind":', Slot("kind", "quoted")),
    *(b',"event_id":', Slot("event_id", "quoted"), b',"late":', Slot("late", "raw")),
    *(b',"values":', Slot("values", "raw"), b',"thresholds":', Slot("thresholds", "raw"), b"}}"),
)


@dataclass(slots=True, frozen=True)
class Decided:
    """Changes of one evaluation, k of them, in the order in which they were decided.

    Attributes:
        row: whose, int64[k].
        segment: place in the plan's names, int64[k].
        entered: entry, or else exit, bool[k].
        ts_ms: event time of each, int64[k].
        n: the user's count of changes with it, int64[k].
        mask: the user's memberships after it, by place, uint64[k].
        kind: of what brought them about.
        decided_at_ms: when.
        event_id: of the event behind each, if there is one, k.
        late: the event came after the clock had passed it, bool[k].
        values: what the condition measured, as JSON, k.
        thresholds: what it compared that with, as JSON, k.
    """

    row: I64
    segment: I64
    entered: Bools
    ts_ms: I64
    n: I64
    mask: U64
    kind: Kind
    decided_at_ms: int
    event_id: Texts
    late: Bools
    values: list[bytes]
    thresholds: list[bytes]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(slots=True, frozen=True)
class Records:
    """The change records of one shard's commit.

    Attributes:
        keys: user ids, k.
        values: changes as JSON, k.
        row: whose, int64[k].
        segment: names, k.
        entered: entry, or else exit, bool[k].
    """

    keys: list[bytes]
    values: list[bytes]
    row: I64
    segment: list[str]
    entered: list[bool]


class Decisions:
    """All that waits for a commit, in order.

    Args:
        names: of the plan's segments.
        versions: of each.
        ids: the lane's users.
    """

    def __init__(self, names: Sequence[str], versions: Sequence[int], ids: TextIndex) -> None:
        self._names, self._versions, self._ids = names, versions, ids
        self._segments = Texts.of(names).escaped()
        self._version = np.array(versions, dtype=np.int64)
        self._form = Form(_FORM)
        self._lists: dict[int, bytes] = {}
        self._retold: list[Undated] = []
        self._decided: list[Decided] = []

    def __len__(self) -> int:
        return len(self._retold) + sum(map(len, self._decided))

    def __iter__(self) -> Iterator[Undated]:
        """Each of them as an object, for people and tests."""
        yield from self._retold
        for d in self._decided:
            for i in range(len(d)):
                place = int(d.segment[i])
                yield Undated(
                    row=int(d.row[i]),
                    segment=self._names[place],
                    action="entered" if d.entered[i] else "exited",
                    ts=int(d.ts_ms[i]),
                    decided_at=d.decided_at_ms,
                    version=self._versions[place],
                    n=int(d.n[i]),
                    segments=self.named(int(d.mask[i])),
                    cause=Cause(
                        kind=d.kind,
                        event_id=d.event_id[i],
                        late=bool(d.late[i]),
                        values=msgspec.json.decode(d.values[i]),
                        thresholds=msgspec.json.decode(d.thresholds[i]),
                    ),
                )

    def add(self, decided: Decided) -> None:
        """What an evaluation decided."""
        self._decided.append(decided)

    def retell(self, change: Undated) -> None:
        """One that takes back what a lost history has told; comes before all others."""
        self._retold.append(change)

    def clear(self) -> None:
        """All of it is committed."""
        self._retold.clear()
        self._decided.clear()

    def counts(self) -> dict[Kind, int]:
        """How many wait, by what brought them about."""
        counts: dict[Kind, int] = {}
        for kind, count in (
            *((change.cause.kind, 1) for change in self._retold),
            *((d.kind, len(d)) for d in self._decided),
        ):
            counts[kind] = counts.get(kind, 0) + count
        return counts

    def named(self, mask: int) -> list[str]:
        """The segments of a mask."""
        return [name for place, name in enumerate(self._names) if mask >> place & 1]

    def records(
        self, shard_of: NDArray[np.integer], seqs: dict[int, int], epochs: dict[int, int]
    ) -> dict[int, Records]:
        """Everything that waits as change records, by shard.

        Args:
            shard_of: the shard of each row.
            seqs: of the commit that each shard is to get.
            epochs: of each shard.
        """
        told_in = {int(shard_of[change.row]) for change in self._retold}
        out = {shard: self._told(shard_of, shard, seqs, epochs) for shard in told_in}
        if not self._decided:
            return out
        row = np.concatenate([d.row for d in self._decided])
        shard = shard_of[row].astype(np.int64)
        order = np.argsort(shard, kind="stable")
        row, shard = row[order], shard[order]
        first = np.searchsorted(shard, shard)
        place = np.arange(len(row)) - first
        for earlier, told in out.items():
            place[shard == earlier] += len(told.keys)
        segment = np.concatenate([d.segment for d in self._decided])[order]
        entered = np.concatenate([d.entered for d in self._decided])[order]
        documents = self._documents(order, row, shard, place, segment, entered, seqs, epochs)
        keys = self._ids.texts(row).bytes_list()
        names = [self._names[i] for i in segment.tolist()]
        bounds = np.flatnonzero(np.append(True, shard[1:] != shard[:-1])).tolist()
        for a, b in zip(bounds, [*bounds[1:], len(row)], strict=True):
            here = Records(keys[a:b], documents[a:b], row[a:b], names[a:b], entered[a:b].tolist())
            mine = int(shard[a])
            out[mine] = _joined(out[mine], here) if mine in out else here
        return out

    def _documents(
        self,
        order: I64,
        row: I64,
        shard: I64,
        place: I64,
        segment: I64,
        entered: Bools,
        seqs: dict[int, int],
        epochs: dict[int, int],
    ) -> list[bytes]:
        parts = self._decided
        shards = np.unique(shard)
        which = np.searchsorted(shards, shard)

        def whole(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(d, name) for d in parts])[order]

        def spread(name: str) -> I64:
            return np.repeat([getattr(d, name) for d in parts], [len(d) for d in parts])[order]

        masks, mask = np.unique(whole("mask"), return_inverse=True)
        kinds = [d.kind for d in parts]
        kind = np.repeat(np.arange(len(parts)), [len(d) for d in parts])[order]
        columns = {
            "epoch": np.array([epochs[s] for s in shards.tolist()])[which],
            "seq": np.array([seqs[s] for s in shards.tolist()])[which],
            "place": place,
            "ts": whole("ts_ms"),
            "decided_at": spread("decided_at_ms"),
            "version": self._version[segment],
            "n": whole("n"),
        }
        texts = {
            "shard": Texts.of([f"{s:02d}" for s in shards.tolist()]).take(which),
            "user_id": self._ids.texts(row).escaped(),
            "segment": self._segments.take(segment),
            "action": Texts.of(_ACTIONS).take(entered.astype(np.int64)),
            "segments": Texts.of_bytes([self._listed(m) for m in masks.tolist()]).take(mask),
            "kind": Texts.of(kinds).take(kind),
            "event_id": Texts.joined([d.event_id for d in parts]).take(order).escaped(),
            "late": _YES_NO.take(whole("late").astype(np.int64)),
            "values": Texts.of_bytes([v for d in parts for v in d.values]).take(order),
            "thresholds": Texts.of_bytes([t for d in parts for t in d.thresholds]).take(order),
        }
        return self._form.fill(columns, texts, {}).bytes_list()

    def _listed(self, mask: int) -> bytes:
        """The segments of a mask, as JSON."""
        found = self._lists.get(mask)
        if found is None:
            found = self._lists[mask] = msgspec.json.encode(self.named(mask))
        return found

    def _told(
        self,
        shard_of: NDArray[np.integer],
        shard: int,
        seqs: dict[int, int],
        epochs: dict[int, int],
    ) -> Records:
        """What is told again of one shard."""
        mine = [change for change in self._retold if shard_of[change.row] == shard]
        dated = [
            change.dated(self._ids[change.row], epochs[shard], shard, seqs[shard], place)
            for place, change in enumerate(mine)
        ]
        return Records(
            keys=[change.user_id.encode() for change in dated],
            values=[msgspec.json.encode(change) for change in dated],
            row=np.array([change.row for change in mine], dtype=np.int64),
            segment=[change.segment for change in dated],
            entered=[change.action == "entered" for change in dated],
        )


def _joined(first: Records, then: Records) -> Records:
    return Records(
        first.keys + then.keys,
        first.values + then.values,
        np.concatenate([first.row, then.row]),
        first.segment + then.segment,
        first.entered + then.entered,
    )
