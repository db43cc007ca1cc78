"""The outbox: changes that are decided and stored, and maybe not yet published.

Each shard has a stream of entries, one for a commit that decided something. Whoever publishes them
trims the stream, in this process or in another. What was not trimmed yet is also kept here, so that
a store that lost its tail can be given the entries once more.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping

from state.servers import TROUBLE, Servers
from state.store_errors import in_words


class Outbox:
    """The outboxes of all shards.

    Args:
        servers: where they are.
        key: the name of a shard's stream.
    """

    def __init__(self, servers: Servers, key: Callable[[int], str]) -> None:
        self._servers, self._key = servers, key
        self._waiting: dict[int, deque[tuple[int, bytes]]] = defaultdict(deque)

    def committed(self, shard: int, seq: int, changes: bytes) -> None:
        """An entry was stored."""
        self._waiting[shard].append((seq, changes))

    def after(self, shard: int, seq: int) -> list[tuple[int, bytes]]:
        """The entries above a sequence that may not be published yet, oldest first."""
        return [entry for entry in self._waiting[shard] if entry[0] > seq]

    def entries(self, shard: int) -> list[tuple[int, bytes]]:
        """Entries of a shard that were not trimmed yet: (sequence, changes), oldest first."""
        with in_words(f"the outbox of shard {shard} could not be read"):
            entries = self._servers.client.xrange(self._key(shard))
        return [(int(entry.split(b"-")[0]), fields[b"changes"]) for entry, fields in entries]

    def trim(self, sequences: Iterable[tuple[int, int]]) -> None:
        """Forget outbox entries up to a sequence, for each (shard, sequence).

        Raises:
            StoreUnavailable: the store does not answer; to be asked again.
        """
        with in_words("published entries could not be trimmed"):
            pipe = self._servers.client.pipeline(transaction=False)
            for shard, seq in sequences:
                waiting = self._waiting[shard]
                while waiting and waiting[0][0] <= seq:
                    waiting.popleft()
                pipe.xtrim(self._key(shard), minid=f"{seq + 1}-0", approximate=False)
            pipe.execute()

    def forget_published(self, stored: Mapping[int, int]) -> None:
        """Forget entries that the publisher, perhaps in another process, has trimmed meanwhile.

        Args:
            stored: the sequences found in the store; a shard that was set back keeps its entries.
        """
        asked = [
            shard
            for shard, waiting in self._waiting.items()
            if waiting and stored.get(shard, -1) >= waiting[-1][0]
        ]
        try:
            pipe = self._servers.client.pipeline(transaction=False)
            for shard in asked:
                pipe.xrange(self._key(shard), count=1)
            found = pipe.execute()
        except TROUBLE:
            return
        for shard, entries in zip(asked, found, strict=True):
            waiting = self._waiting[shard]
            first = int(entries[0][0].split(b"-")[0]) if entries else waiting[-1][0] + 1
            while waiting and waiting[0][0] < first:
                waiting.popleft()
