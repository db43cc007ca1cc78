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
from state.naming import Naming
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
        naming: what places stand for.
        row: whose, int64[k].
        segment: place in the names, int64[k].
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

    naming: Naming
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
        ids: the lane's users.
    """

    def __init__(self, ids: TextIndex) -> None:
        self._ids = ids
        self._form = Form(_FORM)
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
                    segment=d.naming.names[place],
                    action="entered" if d.entered[i] else "exited",
                    ts=int(d.ts_ms[i]),
                    decided_at=d.decided_at_ms,
                    version=d.naming.versions[place],
                    n=int(d.n[i]),
                    segments=d.naming.named(int(d.mask[i])),
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
        every, first_places = _joint(self._decided)
        segment = np.concatenate(
            [d.segment + first_places[d.naming] for d in self._decided], dtype=np.int64
        )[order]
        entered = np.concatenate([d.entered for d in self._decided])[order]
        documents = self._documents(order, row, shard, place, every, segment, entered, seqs, epochs)
        keys = self._ids.texts(row).bytes_list()
        names = [every.names[i] for i in segment.tolist()]
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
        every: Naming,
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

        kinds = [d.kind for d in parts]
        kind = np.repeat(np.arange(len(parts)), [len(d) for d in parts])[order]
        columns = {
            "epoch": np.array([epochs[s] for s in shards.tolist()])[which],
            "seq": np.array([seqs[s] for s in shards.tolist()])[which],
            "place": place,
            "ts": whole("ts_ms"),
            "decided_at": spread("decided_at_ms"),
            "version": np.array(every.versions, dtype=np.int64)[segment],
            "n": whole("n"),
        }
        texts = {
            "shard": Texts.of([f"{s:02d}" for s in shards.tolist()]).take(which),
            "user_id": self._ids.texts(row).escaped(),
            "segment": every.escaped.take(segment),
            "action": Texts.of(_ACTIONS).take(entered.astype(np.int64)),
            "segments": Texts.joined([_listed(d) for d in parts]).take(order),
            "kind": Texts.of(kinds).take(kind),
            "event_id": Texts.joined([d.event_id for d in parts]).take(order).escaped(),
            "late": _YES_NO.take(whole("late").astype(np.int64)),
            "values": Texts.of_bytes([v for d in parts for v in d.values]).take(order),
            "thresholds": Texts.of_bytes([t for d in parts for t in d.thresholds]).take(order),
        }
        return self._form.fill(columns, texts, {}).bytes_list()

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


def _joint(parts: Sequence[Decided]) -> tuple[Naming, dict[Naming, int]]:
    """All namings as one, and where the places of each begin in it."""
    namings = list(dict.fromkeys(d.naming for d in parts))
    if len(namings) == 1:
        return namings[0], {namings[0]: 0}
    names = [name for naming in namings for name in naming.names]
    versions = [version for naming in namings for version in naming.versions]
    ends = np.cumsum([0, *(len(naming.names) for naming in namings)]).tolist()
    return Naming(names, {}, versions), dict(zip(namings, ends, strict=False))


def _listed(decided: Decided) -> Texts:
    """The memberships after each change, as JSON lists."""
    masks, which = np.unique(decided.mask, return_inverse=True)
    lists = [decided.naming.listed(mask) for mask in masks.tolist()]
    return Texts.of_bytes(lists).take(which.astype(np.int64))


def _joined(first: Records, then: Records) -> Records:
    return Records(
        first.keys + then.keys,
        first.values + then.values,
        np.concatenate([first.row, then.row]),
        first.segment + then.segment,
        first.entered + then.entered,
    )
