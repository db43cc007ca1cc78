"""What a shop says of its items: messages of the compacted ``catalog`` topic, as columns.

The key of a message is the item's id, its value a JSON object or MessagePack map with all that is
known of the item. The last message of an item replaces what came before it, so a fact that is not
in it is not known any more. An empty value takes the item out: it is not available from then on.

A bad message is refused with its reason and changes nothing; what was known of its item stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from events.careful import Refused, read_map
from events.columns import amounts_minor
from events.schema import MAX_AMOUNT, Amount, EventRules, Optional64, Optional128, Text64, Text128
from events.texts import Texts

TAGS_MOST: Final = 32
BETWEEN_TAGS: Final = "\n"
"""Tags hold no control characters, so one of these can stand between them."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHOWN: Final = 60


class CatalogItem(msgspec.Struct, gc=False):
    """All that is said of an item.

    Attributes:
        item_id: the message's key again; the key counts where it is absent.
        title: a person's name for it.
        category, brand: free texts; empty counts as absent.
        price: of one piece in major units, a number or a decimal text.
        currency: of the price; the shop's.
        tags: free texts.
        available: whether it may be recommended.
    """

    item_id: Text128 | None = None
    title: Annotated[str, Meta(max_length=256)] | None = None
    category: Optional128 = None
    brand: Optional64 = None
    price: Amount | str | None = None
    currency: str | None = None
    tags: Annotated[list[Text64], Meta(max_length=TAGS_MOST)] = []
    available: bool = True


_JSON: Final = msgspec.json.Decoder(CatalogItem)
_PACKED: Final = msgspec.msgpack.Decoder(CatalogItem)


@dataclass(slots=True, frozen=True)
class Facts:
    """What is said of m items, each once.

    Attributes:
        ids: of the items.
        titles, categories, brands: absent where nothing was said.
        tags: in order of the alphabet with ``BETWEEN_TAGS`` between them; absent for none.
        price: of one piece in minor units, int64[m]; 0 where nothing was said.
        available: whether an item may be recommended, bool[m].
        gone: whether it was taken out, bool[m]; it is not available then.
    """

    ids: Texts
    titles: Texts
    categories: Texts
    brands: Texts
    tags: Texts
    price: NDArray[np.int64]
    available: NDArray[np.bool_]
    gone: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


def read_facts(
    messages: Iterable[tuple[bytes, bytes | None]], rules: EventRules
) -> tuple[Facts, list[tuple[str, Refused]]]:
    r"""The facts in some messages, and what was refused with the item it was about.

    Args:
        messages: (key, value) in the order of the log; the last one of an item counts.
        rules: the shop's currency and the size of a message.

    >>> facts, refused = read_facts([
    ...     (b"mug", b'{"title": "A mug", "price": 9.5, "tags": ["new", "blue"]}'),
    ...     (b"cup", b'{"price": -1}'),
    ...     (b"jar", b""),
    ... ], EventRules())
    >>> facts.ids.tolist(), facts.titles.tolist(), facts.price.tolist(), facts.tags.tolist()
    (['mug', 'jar'], ['A mug', None], [950, 0], ['blue\nnew', None])
    >>> facts.available.tolist(), facts.gone.tolist()
    ([True, False], [False, True])
    >>> [(item, error.reason, error.path) for item, error in refused]
    [('cup', 'invalid', '$.price')]
    """
    held: dict[str, CatalogItem | None] = {}
    refused: list[tuple[str, Refused]] = []
    for key, value in messages:
        try:
            item_id, item = read_item(key, value, rules)
        except Refused as error:
            refused.append((key.decode(errors="backslashreplace")[:_SHOWN], error))
            continue
        held.pop(item_id, None)
        held[item_id] = item
    return _facts(held, rules), refused


def read_item(key: bytes, value: bytes | None, rules: EventRules) -> tuple[str, CatalogItem | None]:
    """One message: the item's id and what is said of it, None where it was taken out.

    Raises:
        Refused: it cannot be taken.
    """
    named = _item_id(key)
    if not value:
        if not named:
            raise Refused("missing", "", "an empty message needs an item's id as its key")
        return named, None
    item = read_map(value, rules.max_bytes, _JSON, _PACKED)
    item_id = item.item_id or named
    if not item_id:
        raise Refused("missing", "$.item_id", "`item_id` or a key is required, but both are absent")
    if named and item_id != named:
        raise Refused(
            "invalid",
            "$.item_id",
            f"must be the key, {named[:_SHOWN]!r}, but {item_id[:_SHOWN]!r} came",
        )
    _check(item_id, item, rules)
    return item_id, item


def _item_id(key: bytes) -> str:
    try:
        out = key.decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid", "key", f"the key must be UTF-8: {error}") from error
    if len(out) > 128:
        raise Refused("invalid", "key", f"the key must be at most 128 characters, not {len(out)}")
    return out


def _check(item_id: str, item: CatalogItem, rules: EventRules) -> None:
    tags = ((f"$.tags[{place}]", tag) for place, tag in enumerate(item.tags))
    for path, text in (("$.item_id", item_id), *tags):
        if _CONTROL.search(text):
            raise Refused(
                "invalid", path, f"must hold no control characters, but {text[:_SHOWN]!r} came"
            )
    if item.currency not in (None, "", rules.currency):
        raise Refused(
            "currency",
            "$.currency",
            f"must be {rules.currency}, but {item.currency[:_SHOWN]!r} came",
        )
    if item.price is None:
        return
    if amounts_minor([item.price], rules.minor_digits)[0] < 0:
        raise Refused(
            "invalid",
            "$.price",
            f"must be a decimal from 0 to {MAX_AMOUNT:.0f}, but {item.price!r:.{_SHOWN}} came",
        )


def _facts(held: dict[str, CatalogItem | None], rules: EventRules) -> Facts:
    nothing = CatalogItem(available=False)
    items = [nothing if item is None else item for item in held.values()]
    prices = amounts_minor([item.price for item in items], rules.minor_digits)
    return Facts(
        ids=Texts.of(list(held)),
        titles=Texts.of([item.title or None for item in items]),
        categories=Texts.of([item.category or None for item in items]),
        brands=Texts.of([item.brand or None for item in items]),
        tags=Texts.of([BETWEEN_TAGS.join(sorted(set(item.tags))) or None for item in items]),
        price=np.maximum(prices, 0),
        available=np.array([item.available for item in items], dtype=np.bool_),
        gone=np.array([item is None for item in held.values()], dtype=np.bool_),
    )
