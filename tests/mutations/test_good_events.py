"""What one user may do to others by events that are good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from tests.mutations.kinds import AHEAD_MS, APPLIED, DUPLICATE, written
from tests.mutations.running import Run, run
from tests.mutations.streams import START_MS, Sent, last_log_ms


def event_of(user: str, event_id: str, ts_ms: int, **fields: str) -> Sent:
    event = {"event_id": event_id, "user_id": user, "type": "product_view", "ts": ts_ms, **fields}
    return Sent(written(event), ts_ms, user)


def document_of(done: Run, user: str) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.msgpack.decode(done.documents()[user])
    return document


def test_devices_that_nobody_has_do_not_hide_those_of_others() -> None:
    """More of them than are kept in mind, before anybody else came."""
    flood = [
        event_of("mutated-x", f"{n}", START_MS + n, device=f"d{n}", country=f"c{n}")
        for n in range(12_000)
    ]
    mine = event_of("ann", "1", START_MS + 20_000, device="mobile", country="DE")
    without = run([[mine]], [mine.log_ms])
    with_them = run([flood, [mine]], last_log_ms([flood, [mine]]))
    assert document_of(with_them, "ann") == document_of(without, "ann")


def test_an_event_ahead_of_the_log_lets_no_duplicate_of_others_pass() -> None:
    """A copy that comes within the window of duplicates, while another clock is fast."""
    mine, later_ms = event_of("ann", "1", START_MS), START_MS + 360_000
    fast = replace(event_of("mutated-x", "1", later_ms + AHEAD_MS), log_ms=later_ms)
    again = replace(mine, log_ms=later_ms)
    without = run([[mine], [again]], [START_MS, later_ms])
    with_it = run([[mine], [fast, again]], [START_MS, later_ms])
    assert without.outcomes == [APPLIED, DUPLICATE]
    assert document_of(with_it, "ann") == document_of(without, "ann")
