"""The load: events as JSON lines of about 180 bytes, drawn independently and cheaply.

The shop of ``events.shop`` is believable, so its users come in visits and most of a batch belongs
to few of them. Here every event's user is drawn on its own, by Zipf's law or all alike, which is
the harder input for a batch engine and the one that rivals are measured with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

PLAIN: Final[Mapping[str, float]] = {"product_view": 0.8, "purchase": 0.2}
"""Share of each type where only RFM is measured."""

SHOP: Final[Mapping[str, float]] = {
    "product_view": 0.45,
    "page_view": 0.185,
    "search": 0.115,
    "add_to_cart": 0.105,
    "impression": 0.038,
    "purchase": 0.035,
    "click": 0.021,
    "wishlist_add": 0.018,
    "remove_from_cart": 0.016,
    "email_open": 0.015,
    "refund": 0.002,
}
"""Share of each type where everything is on: what ``events.shop`` publishes."""

_DUPLICATES: Final = 0.01
_BUYERS: Final = 0.3
_SETTLE_S: Final = 35
_SETTLE_EVENTS: Final = 70_000
_PAST_MS: Final = 20 * 86_400_000
_ITEMS: Final = 2_000
_BLOCK: Final = 20_000
_DEVICES: Final = ("mobile", "desktop", "tablet")
_COUNTRIES: Final = ("DE", "FR", "PL", "ES", "IT", "NL", "SE", "GB", "US", "JP")


@dataclass(slots=True, frozen=True)
class Load:
    """What is sent.

    Attributes:
        users: how many there are.
        zipf: exponent of their activity; 0 makes all alike.
        shares: share of each event type.
        rate_per_s: events per second of event time.
        seed: of all chance.

    >>> load = Load(users=100, shares=PLAIN)
    >>> lines = list(load.lines(1_000, start_ms=1_790_000_000_000))
    >>> len(lines), 150 < sum(map(len, lines)) / 1_000 < 200
    (1000, True)
    """

    users: int = 200_000
    zipf: float = 1.2
    shares: Mapping[str, float] = field(default_factory=lambda: PLAIN)
    rate_per_s: float = 20_000
    seed: int = 1

    def lines(self, n: int, start_ms: int) -> Iterator[bytes]:
        """``n`` events whose times go on evenly from ``start_ms``; one in a hundred comes twice."""
        rng = np.random.default_rng(self.seed)
        weights = np.arange(1, self.users + 1) ** -self.zipf
        reach = np.cumsum(weights / weights.sum())
        who = rng.permutation(self.users)
        for first in range(0, n, _BLOCK):
            count = min(_BLOCK, n - first)
            place = np.searchsorted(reach, rng.random(count) * reach[-1])
            kinds = rng.choice(len(self.shares), count, p=list(self.shares.values()))
            ts_ms = start_ms + ((first + np.arange(count)) * 1000 / self.rate_per_s).astype("i8")
            lines = self._write(rng, f"e{self.seed}-{first}-", who[place], kinds, ts_ms)
            for i in np.flatnonzero(rng.random(count) < _DUPLICATES).tolist():
                lines[i] = lines[max(i - 7, 0)]
            yield from lines

    def before(self, start_ms: int) -> Iterator[bytes]:
        """What brings an engine to its steady state before ``start_ms``.

        Every user once over the last twenty days, then half a minute of thinner load, in which the
        cuts are measured and all users swept, so that nobody's first label is left to be counted.
        """
        begin_ms = start_ms - 1000 * _SETTLE_S
        yield from self.everyone(begin_ms - _PAST_MS, begin_ms)
        thin = replace(self, rate_per_s=_SETTLE_EVENTS / _SETTLE_S, seed=self.seed + 1)
        yield from thin.lines(_SETTLE_EVENTS, begin_ms)

    def everyone(self, begin_ms: int, end_ms: int) -> Iterator[bytes]:
        """One event of every user, three in ten a purchase, spread evenly over some time."""
        step_ms = (end_ms - begin_ms) / self.users
        rng = np.random.default_rng(self.seed + 1)
        names = list(self.shares)
        view, purchase = names.index("product_view"), names.index("purchase")
        for first in range(0, self.users, _BLOCK):
            who = np.arange(first, min(first + _BLOCK, self.users))
            kinds = np.where(rng.random(len(who)) < _BUYERS, purchase, view)
            yield from self._write(
                rng, f"w{first}-", who, kinds, begin_ms + (who * step_ms).astype("i8")
            )

    def _write(
        self, rng: np.random.Generator, prefix: str, who: I64, kinds: I64, ts_ms: I64
    ) -> list[bytes]:
        names, n = list(self.shares), len(who)
        text = [
            f'{{"event_id":"{prefix}{i:x}","user_id":"u{u:06d}","type":"{names[k]}",'
            f'"device":"{_DEVICES[d]}","ts":{t},"session_id":"s{u:x}",'
            f'{_extra(names[k], u, t, item, cents)}"country":"{_COUNTRIES[u % 10]}"}}'
            for i, (u, k, d, t, item, cents) in enumerate(
                zip(
                    who.tolist(),
                    kinds.tolist(),
                    (who % 3).tolist(),
                    ts_ms.tolist(),
                    rng.integers(0, _ITEMS, n).tolist(),
                    rng.integers(100, 20_000, n).tolist(),
                    strict=True,
                )
            )
        ]
        return "\n".join(text).encode().split(b"\n")


def _extra(kind: str, user: int, ts_ms: int, item: int, cents: int) -> str:
    """What only some types carry; a refund is of an order of its own or of an earlier one."""
    if kind in ("purchase", "refund"):
        order = f"o{user:x}-{ts_ms // 10_000:x}"
        return f'"order_id":"{order}","item_id":"i{item:05d}","amount":{cents / 100},'
    if kind in ("page_view", "search", "email_open"):
        return ""
    return f'"item_id":"i{item:05d}","category":"c{item % 12:02d}",'


def user_key(line: bytes) -> bytes:
    """The user id in a line of the load: the Kafka key."""
    return line.split(b'"', 8)[7]
