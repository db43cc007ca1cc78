"""Where things stand in the store.

A user's shard is ``crc32(user id) % shards``; how many shards there are stands in ``ag:meta``, so
it is read and never guessed. All keys of a shard share a hash tag, ``{07}``, so that a cluster
keeps them on one node. A user id is a field of a hash or a member of a set, never part of a key.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from afterglow_client.errors import NotAfterglow

FORMAT: Final = 1
"""Version of the keys' layout that this client reads."""


@dataclass(slots=True, frozen=True)
class Layout:
    """The keys of one prefix.

    Attributes:
        prefix: starts every key.
        shards: how many shards the data are split into.

    >>> layout = Layout("ag", 64)
    >>> layout.key("profile", layout.shard_of(field("ann")))
    'ag:profile:{51}'
    >>> layout.key("members", 7, "vip")
    'ag:members:{07}:vip'
    """

    prefix: str
    shards: int

    def shard_of(self, user: bytes) -> int:
        """The shard of a user."""
        return zlib.crc32(user) % self.shards

    def key(self, kind: str, shard: int, rest: str = "") -> str:
        """Name of one of a shard's keys."""
        return f"{self.prefix}:{kind}:{{{shard:02d}}}" + (f":{rest}" if rest else "")

    def by_shard(self, user_ids: Iterable[str]) -> dict[int, list[str]]:
        """Users, each once, by their shard."""
        found: dict[int, list[str]] = {}
        for user_id in dict.fromkeys(user_ids):
            found.setdefault(self.shard_of(field(user_id)), []).append(user_id)
        return found


def meta_key(prefix: str) -> str:
    """The key under which the layout is stored."""
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"prefix must hold no braces, because they mark the shard: {prefix!r}")
    return f"{prefix}:meta"


def layout_of(prefix: str, meta: Mapping[bytes, bytes]) -> Layout:
    """What ``ag:meta`` says.

    >>> layout_of("ag", {b"format": b"1", b"shards": b"64"})
    Layout(prefix='ag', shards=64)

    Raises:
        NotAfterglow: it says nothing, or another format.
    """
    key = meta_key(prefix)
    if not meta:
        raise NotAfterglow(
            f"the store holds no Afterglow data under the prefix {prefix!r}: there is no {key!r}. "
            "Check the address, its database number and the prefix (redis.prefix in the engine's "
            "settings), and that an engine has run there"
        )
    form, shards = meta.get(b"format", b""), meta.get(b"shards", b"")
    if form != str(FORMAT).encode():
        raise NotAfterglow(
            f"the data under {prefix!r} have the format {form.decode(errors='replace')!r}, but "
            f"this client reads format {FORMAT}: install the afterglow-client of the engine's "
            "version"
        )
    if not shards.isdigit() or not int(shards):
        raise NotAfterglow(
            f"{key!r} must say into how many shards the data are split, but says {shards!r}: "
            "something else wrote there"
        )
    return Layout(prefix, int(shards))


def segment_names(defined: Iterable[bytes | None]) -> tuple[str, ...]:
    """Every tag and label, of what the shards' commit records say of their segments.

    A shard says nothing before its first commit; while definitions change, shards may differ.

    >>> segment_names([None, b'[["vip","high_intent"],{"rfm":["champions","lost"]}]'])
    ('vip', 'high_intent', 'champions', 'lost')

    Raises:
        NotAfterglow: it cannot be read.
    """
    names: dict[str, None] = {}
    for record in dict.fromkeys(defined):
        if record is not None:
            names |= dict.fromkeys(_names(record))
    return tuple(names)


def _names(record: bytes) -> list[str]:
    try:
        held: Any = json.loads(record)
        tags, families = held[:2]
        return [*tags, *(label for labels in families.values() for label in labels)]
    except (ValueError, TypeError, AttributeError) as error:
        raise NotAfterglow(
            "the names of segments must be a list of tags and a map of families, but are "
            f"{record[:200]!r}: install the afterglow-client of the engine's version"
        ) from error


def field(user_id: str) -> bytes:
    """A user id as a field of a hash.

    Raises:
        TypeError: it is not a text.
    """
    if not isinstance(user_id, str):
        raise TypeError(f"user_id must be a str such as 'ann', but is {user_id!r}")
    return user_id.encode("utf-8", "surrogatepass")  # nobody's id holds half a character
