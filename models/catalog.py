"""What the shop says of items, kept in the item table beside what users taught about them.

Texts are codes into indexes of their own. What the catalogue says of a category or a price wins
over what events say. An item that was taken out is known to be gone; an item that was never in the
catalogue counts as available.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.catalog import BETWEEN_TAGS, Facts
from events.texts import Texts
from models.items import NO_CATEGORY, ItemTable
from state.text_index import TextIndex

I64 = NDArray[np.int64]

_TEXTS: Final = ("title", "brand", "tags")


class Catalog:
    """Facts of items.

    Args:
        items: the table that they are kept in.

    Attributes:
        texts: by name of the column (``title``, ``brand``, ``tags``) what its codes stand for.

    >>> from events.catalog import read_facts
    >>> from events.schema import EventRules
    >>> from models.item_plan import ItemPlan
    >>> items = ItemTable(ItemPlan())
    >>> facts, _ = read_facts([(b"mug", b'{"title": "A mug", "tags": ["blue"]}')], EventRules())
    >>> catalog = Catalog(items)
    >>> catalog.take(facts).tolist(), catalog.tags()
    ([0], [['blue']])
    """

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self.texts = {name: TextIndex() for name in _TEXTS}

    def take(self, facts: Facts) -> I64:
        """Take over what is said; the items' rows."""
        items, table = self._items, self._items.table
        rows = items.rows(facts.ids)
        table = items.table
        table["described"][rows] = ~facts.gone
        table["available"][rows] = facts.available
        for name, texts in zip(_TEXTS, (facts.titles, facts.brands, facts.tags), strict=True):
            table[name][rows] = self.texts[name].number(texts)
        said = facts.categories.present
        codes = items.categories.number(facts.categories)
        table["category.said"][rows] = said
        table["category"][rows[said]] = codes[said]
        priced = facts.price > 0
        table["price.said"][rows] = priced
        table["price"][rows[priced]] = facts.price[priced]
        table["changed"][rows] = True
        return rows

    def held(self) -> Facts:
        """All that is said now."""
        items, table = self._items, self._items.table
        size = len(items)
        rows = np.flatnonzero(table["described"][:size] | ~table["available"][:size])
        said = np.where(table["category.said"][rows], table["category"][rows], NO_CATEGORY)
        titles, brands, tags = (self.texts[name].texts(table[name][rows]) for name in _TEXTS)
        return Facts(
            ids=items.ids.texts(rows).packed(),
            titles=titles,
            categories=items.categories.texts(said).packed(),
            brands=brands,
            tags=tags,
            price=np.where(table["price.said"][rows], table["price"][rows], 0),
            available=table["available"][rows],
            gone=~table["described"][rows],
        )

    def again(self, facts: Facts) -> I64:
        """Begin anew with some facts, because the item table did; the items' rows."""
        facts = Facts(
            facts.ids,
            facts.titles.packed(),
            facts.categories,
            facts.brands.packed(),
            facts.tags.packed(),
            facts.price,
            facts.available,
            facts.gone,
        )
        self.texts = {name: TextIndex() for name in _TEXTS}
        return self.take(facts)

    def tags(self) -> list[list[str]]:
        """The tags that each code of ``tags`` stands for."""
        return [text.split(BETWEEN_TAGS) for text in _all(self.texts["tags"])]

    def titles(self) -> list[str]:
        """The title that each code of ``title`` stands for."""
        return _all(self.texts["title"])


def _all(index: TextIndex) -> list[str]:
    held: Texts = index.texts(np.arange(len(index)))
    return held.strings()
