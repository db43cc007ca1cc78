"""What the routes stand on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from afterglow_client import AsyncReader
from serving.api.auth import Tokens
from serving.api.feed import Feed
from serving.api.metrics import HttpMetrics
from serving.api.terms import Terms

Explain = Callable[[str, str], Awaitable[str]]
"""Says in words why a user is in a segment, or has an offer (``offers.NAME``), or not.

Raises ``NotExplained`` of what there is nothing to say."""


class NotExplained(LookupError):
    """There is no such user, segment, offer or item; the message says which."""


def wall_clock_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Parts:
    """Everything a server is made of.

    Attributes:
        reader: of the store.
        tokens: who may what.
        terms: limits.
        explain: why somebody is in a segment; None where that is not offered.
        explain_item: why an item is in a stored list, in words.
        feed: the changes; None where there is no broker.
        metrics: of this server.
        clock_ms: the time.
    """

    reader: AsyncReader
    tokens: Tokens = field(default_factory=lambda: Tokens({}))
    terms: Terms = field(default_factory=Terms)
    explain: Explain | None = None
    explain_item: Callable[[dict[str, object], str], str] | None = None
    feed: Feed | None = None
    metrics: HttpMetrics = field(default_factory=HttpMetrics)
    clock_ms: Callable[[], int] = wall_clock_ms
