"""What must not change under the data, written down once: ``ag:meta``.

Only an engine writes it, when it begins a store. Whoever else reads the data compares with it, and
so finds out that there is nothing to read; it must need no right to write, and leave no trace.
"""

from __future__ import annotations

from collections.abc import Callable

from state.servers import Servers
from state.store_errors import StoreEmpty, StoreMismatch, in_words

FORMAT = 1
"""Version of the keys' layout; a store of another format is refused."""


class Meta:
    """One key beside the shards: a field for each thing that stays.

    Args:
        servers: where it is.
        prefix: of all keys.
        shards: how many the settings say there are.
        draw_salt: a number that nobody can foretell.
    """

    def __init__(
        self, servers: Servers, prefix: str, shards: int, draw_salt: Callable[[], int]
    ) -> None:
        self._servers, self._prefix, self._draw_salt = servers, prefix, draw_salt
        self._key = f"{prefix}:meta"
        self._wanted = {"format": str(FORMAT), "shards": str(shards)}

    def begin(self) -> None:
        """Write down format and shards where nothing stands, for an engine.

        Raises:
            StoreMismatch: the data were written with others.
        """
        with in_words(f"{self._key!r} could not be read and written"):
            client = self._servers.client
            if client.hget(self._key, "format") is None:  # what older stores hold has no salt
                client.hsetnx(self._key, "salt", self._draw_salt())
        for name, value in self._wanted.items():
            self._compare(name, self._agreed(name, value))

    def expect(self) -> None:
        """Compare format and shards, for whoever only reads; nothing is written.

        Raises:
            StoreEmpty: no engine has begun the store.
            StoreMismatch: the data were written with others.
        """
        with in_words(f"{self._key!r} could not be read"):
            found = self._servers.client.hmget(self._key, list(self._wanted))
        if None in found:
            raise StoreEmpty(
                f"the store holds no Afterglow data under the prefix {self._prefix!r}: there is no "
                f"{self._key!r}. Check the address, its database number and the prefix (REDIS_URL, "
                "redis.prefix), and that an engine has run there (`afterglow run`)"
            )
        for name, held in zip(self._wanted, found, strict=True):
            self._compare(name, held.decode())

    def salt(self) -> int:
        """What the hashes of events are made with, so that nobody can foretell them; 0 for none."""
        with in_words("the salt could not be read"):
            return int(self._servers.client.hget(self._key, "salt") or 0)

    def agree_log(self, topic: str, identity: str) -> None:
        """Refuse a log that is not the one which the stored positions belong to.

        Args:
            topic: its name.
            identity: what tells it from another of that name; empty if nothing does.

        Raises:
            StoreMismatch: they belong to another.
        """
        if not identity:
            return
        held = self._agreed(f"log:{topic}", identity)
        cluster = identity.partition("/")[0]  # all that brokers say who give topics no ids yet
        if held not in (identity, cluster):
            raise StoreMismatch(
                f"the positions under {self._prefix!r} belong to the topic {topic!r} with the "
                f"identity {held}, but the broker has one with the identity {identity}: it was "
                "recreated, or this is another cluster, and positions mean nothing there. Point "
                "KAFKA_BOOTSTRAP back, or start with another redis.prefix"
            )

    def agree_money(self, currency: str, minor_digits: int) -> None:
        """Refuse another currency, or minor unit, than that of the stored amounts.

        Raises:
            StoreMismatch: it is another.
        """
        value = f"{currency} of {minor_digits} digits"
        held = self._agreed("money", value)
        if held != value:
            raise StoreMismatch(
                f"the amounts under {self._prefix!r} are {held}, but the settings say {value}: set "
                "events.currency and events.minor_digits back, or start with another redis.prefix"
            )

    def _compare(self, name: str, held: str) -> None:
        if held != self._wanted[name]:
            raise StoreMismatch(
                f"the store's data under {self._key!r} have {name} {held}, but the settings say "
                f"{self._wanted[name]}: set redis.{name} back to {held}, or use another "
                "redis.prefix"
            )

    def _agreed(self, name: str, value: str) -> str:
        """What stands under a name; this value, if nothing stood there before."""
        with in_words(f"{self._key!r} could not be read and written"):
            self._servers.client.hsetnx(self._key, name, value)
            held: bytes = self._servers.client.hget(self._key, name)
        return held.decode()
