"""What catalogue and rules come to: which items are blocked, which are pushed, which are pinned.

All items are looked at when something has been said of any of them, when a rule begins or ends, and
every so often because popularity and ages change by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.catalog import Facts
from models.catalog import Catalog
from models.content import Content
from models.item_view import ItemView
from models.items import ItemTable
from models.rules import Rule, RuleError, decode_rules
from models.ruling import Pins, Rules
from state.times import MINUTE_MS, NEVER_MS

U64 = NDArray[np.uint64]

_AGAIN_MS: Final = MINUTE_MS
"""Popularity and ages are looked at so often."""
NO_PINS: Final = Pins(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64))


@dataclass(slots=True, frozen=True)
class Turn:
    """What has changed for lists that are made already.

    Attributes:
        blocked: hashes of items that may not be shown any more, uint64[n].
        rules: whether other rules hold than before, which concerns every list.
    """

    blocked: U64
    rules: bool


class Steering:
    """Keeps an item table as catalogue and rules want it.

    Args:
        items: the table.
        rules: of the settings; those of the store replace them.

    Attributes:
        catalog: what is said of items.
        content: which items are described alike.
        pins: items with a place in every list.
        trouble: why the stored rules are not in force; empty if they are.
    """

    def __init__(self, items: ItemTable, rules: Mapping[str, Rule]) -> None:
        self._items = items
        self.catalog, self.content = Catalog(items), Content(items)
        self.pins = NO_PINS
        self.trouble = ""
        self._own = self._rules = Rules(rules)
        self._raw: bytes | None = None
        self._held: tuple[str, ...] = ()
        self._stale, self._swapped = True, False
        self._looked_ms, self._size = NEVER_MS, 0
        self._blocked = np.empty(0, dtype=np.uint64)

    def take_facts(self, facts: Facts) -> None:
        """Take over what the catalogue says."""
        if len(facts):
            self.content.take(facts, self.catalog.take(facts))
            self._stale = True

    def take_rules(self, raw: bytes | None) -> None:
        """Take over stored rules, or those of the settings where there are none.

        Rules that cannot be read, because another version wrote them, change nothing.
        """
        if raw == self._raw:
            return
        self._raw, self.trouble = raw, ""
        try:
            self._rules = self._own if raw is None else Rules(decode_rules(raw).rules)
        except RuleError as error:
            self.trouble = str(error)
            return
        self._stale = self._swapped = True

    def again(self, facts: Facts) -> None:
        """The item table began anew: put back what the catalogue said, and what it comes to."""
        self.content.again()
        self.content.take(facts, self.catalog.again(facts))
        self._stale = True
        if self._looked_ms != NEVER_MS:
            self._apply(self._looked_ms)

    def look(self, now_ms: int) -> Turn | None:
        """Bring all items up to date if it is time; None if nothing was looked at.

        Args:
            now_ms: what tells which rules hold.
        """
        names = self._rules.in_force(now_ms)
        changed = self._swapped or names != self._held
        # without rules, new items are as they must be
        grown = bool(names) and len(self._items) != self._size
        if not (self._stale or changed or grown or now_ms - self._looked_ms >= _AGAIN_MS):
            return None
        self._looked_ms, self._stale, self._swapped, self._held = now_ms, False, False, names
        blocked = self._apply(now_ms)
        before, self._blocked = self._blocked, blocked
        return Turn(np.setdiff1d(blocked, before, assume_unique=True), changed)

    def _apply(self, now_ms: int) -> U64:
        """Write to the table what holds now; the hashes of blocked items, rising."""
        items, table, names = self._items, self._items.table, self._held
        size, view = len(items), ItemView(items, self.catalog, now_ms)
        blocked = ~table["available"][:size] | self._rules.excluded(view, names)
        table["blocked"][:size] = blocked
        table["boost"][:size] = self._rules.boosts(view, names)
        self.pins, self._size = self._rules.pins(names), size
        items.find_popular()
        return np.sort(table["hash"][:size][blocked])
