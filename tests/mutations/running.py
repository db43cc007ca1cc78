"""One lane over a stream, with a plain account of event ids beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dataflows.plans import event_rules, lane_plan
from dataflows.settings import load
from events.batch import Batch, DeadLetter, Read, Span
from events.decode import Decoder
from state.lane import Lane
from state.plan import LanePlan
from tests.mutations.kinds import AHEAD_MS, APPLIED, DUPLICATE
from tests.mutations.streams import Sent

DEDUP_MS = 600_000 + AHEAD_MS
"""The window that is set, and as much again as an event may be ahead of its log."""
CUTS = "rfm.cuts={recency_days=[1,7,30,90],frequency=[1,2,3,4],monetary=[9,10,11,12]}"
"""Cuts that do not move: those of a population would rightly follow whoever is in it."""


class Account:
    """Which events have been seen, by their ids, as the contract has it.

    Ids are remembered for so long behind the newest event; what is older is applied unchecked.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._newest_ms = 0

    def enter(self, user: str, event_id: str, ts_ms: int) -> str:
        """What becomes of the next good event."""
        self._newest_ms = max(self._newest_ms, ts_ms)
        if ts_ms < self._newest_ms - DEDUP_MS:
            return APPLIED
        known = (user, event_id) in self._seen
        self._seen.add((user, event_id))
        return DUPLICATE if known else APPLIED


@dataclass
class Run:
    """One lane over some reads.

    Attributes:
        outcomes: of each message, in order: applied, duplicate, or the reason of its letter.
        users: of each message that became an event, by its place.
        letters: all dead letters.
    """

    lane: Lane
    outcomes: list[str] = field(default_factory=list)
    users: dict[int, str] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)

    def documents(self) -> dict[str, bytes]:
        """Every profile, as it would be stored."""
        ids = self.lane.users.ids
        raw = self.lane.portraits.encode(np.arange(self.lane.table.size)).bytes_list()
        return dict(zip(ids, raw, strict=True))


def fixed_plan() -> LanePlan:
    return lane_plan(load(sets=[CUTS], env={}))


def read_of(sent: Sequence[Sent], first: int, *, at_end: bool = True) -> Read:
    n = len(sent)
    return Read(
        topic="events",
        payloads=[each.payload for each in sent],
        record_ts_ms=np.array([each.log_ms for each in sent], dtype=np.int64),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(first, first + n, dtype=np.int64),
        spans=[Span(0, first, first + n, at_end=at_end)],
    )


def run(reads: Iterable[Sequence[Sent]], wall_ms: Iterable[int | None]) -> Run:
    """Decode and apply; the wall clock stands at a time of its own at each read.

    Where it is None the log is still behind, and events alone move time.
    """
    decode, account = Decoder(event_rules(load(env={}))), Account()
    out = Run(Lane(fixed_plan(), range(64)))
    for sent, now_ms in zip(reads, wall_ms, strict=True):
        first = len(out.outcomes)
        batch, letters = decode(read_of(sent, first, at_end=now_ms is not None))
        out.outcomes += [""] * len(sent)
        take_note(out, batch, letters, account)
        out.lane.apply(batch, now_ms)
        counters = out.lane.counters
        assert counters.events == out.outcomes.count(APPLIED), "applied"
        assert counters.duplicates == out.outcomes.count(DUPLICATE), "duplicates"
    return out


def take_note(out: Run, batch: Batch, letters: Sequence[DeadLetter], account: Account) -> None:
    """Each message of a read must be met once, as an event or as a letter."""
    for letter in letters:
        assert out.outcomes[letter.offset] == ""
        out.outcomes[letter.offset] = letter.reason
    ids = zip(batch.users.strings(), batch.event_ids.strings(), batch.ts_ms.tolist(), strict=True)
    for offset, (user, event_id, ts_ms) in zip(batch.offset.tolist(), ids, strict=True):
        assert out.outcomes[offset] == ""
        out.outcomes[offset] = account.enter(user, event_id, ts_ms)
        out.users[offset] = user
    out.letters += letters
