"""Catalogues for tests."""

import msgspec

from events.catalog import Facts, read_facts
from events.schema import EventRules


def facts(**items) -> Facts:
    """Facts of items by id; None for one that was taken out."""
    found, refused = read_facts(
        [
            (name.encode(), None if said is None else msgspec.json.encode(said))
            for name, said in items.items()
        ],
        EventRules(),
    )
    assert refused == []
    return found
