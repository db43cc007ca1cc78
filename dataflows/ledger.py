"""A ledger of what was published, to hold profiles against; kept apart from the engine.

It knows only what every shopkeeper knows: how many events a customer caused, and what they paid
and got back. That is enough to see an event that was lost or counted twice.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from state.store import Store


class _Line(msgspec.Struct):
    user_id: str
    type: str
    amount: Decimal | None = None


@dataclass(slots=True)
class Account:
    """One customer: events, gross and refunds in minor units."""

    events: int = 0
    gross: int = 0
    refunds: int = 0


@dataclass(slots=True)
class Ledger:
    """All customers' accounts."""

    accounts: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    events: int = 0

    def enter(self, payload: bytes) -> None:
        """Book one good event."""
        line = _decoder.decode(payload)
        account = self.accounts[line.user_id]
        account.events += 1
        self.events += 1
        minor = int((line.amount or Decimal(0)) * 100)
        if line.type == "purchase":
            account.gross += minor
        elif line.type == "refund":
            account.refunds += minor

    def compare(self, store: Store, *, strangers: bool = False) -> tuple[int, list[str]]:
        """How many events the profiles hold, and the users whose profile is not as booked.

        Args:
            store: of the profiles.
            strangers: whether others publish too; users who are not booked are left out then.
        """
        seen, wrong, events = set(), [], 0
        for shard in range(store.shards):
            for user, document in store.profiles(shard):
                if strangers and user not in self.accounts:
                    continue
                held = _profiles.decode(document).lifetime
                booked = self.accounts.get(user, Account())
                seen.add(user)
                events += held.events
                spend = max(0, booked.gross - booked.refunds)
                truth = (booked.events, spend, booked.refunds)
                if (held.events, held.spend, held.refunds) != truth:
                    wrong.append(user)
        return events, wrong + sorted(self.accounts.keys() - seen)


class _Lifetime(msgspec.Struct):
    events: int
    spend: int
    refunds: int


class _Profile(msgspec.Struct):
    lifetime: _Lifetime


_decoder = msgspec.json.Decoder(_Line)
_profiles = msgspec.msgpack.Decoder(_Profile)
