"""What models have not learned yet, in the store: a stream of examples for each shard.

A commit appends what its users' snapshots came to; the lane that learns reads the streams of all
shards, and trims them when what it has learned is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from state.servers import Servers
from state.store_errors import in_words


class ExampleStore:
    """The examples of all shards.

    Args:
        servers: where they are.
        key: the name of a shard's stream.
        shards: all there are.
    """

    def __init__(self, servers: Servers, key: Callable[[int], str], shards: Sequence[int]) -> None:
        self._servers, self._key, self._shards = servers, key, shards

    def after(self, positions: Mapping[int, str]) -> dict[int, list[tuple[str, bytes]]]:
        """Examples of all shards beyond a place of each: (place, examples), oldest first.

        Raises:
            StoreUnavailable: the store does not answer; to be asked again.
        """
        with in_words("examples could not be read"):
            pipe = self._servers.client.pipeline(transaction=False)
            for shard in self._shards:
                after = positions.get(shard)
                pipe.xrange(self._key(shard), min=f"({after}" if after else "-")
            found = pipe.execute()
        return {
            shard: [(place.decode(), fields[b"examples"]) for place, fields in entries]
            for shard, entries in zip(self._shards, found, strict=True)
            if entries
        }

    def forget(self, positions: Mapping[int, str]) -> None:
        """Forget examples up to and including a place of each shard.

        Raises:
            StoreUnavailable: the store does not answer; to be asked again.
        """
        with in_words("learned examples could not be trimmed"):
            pipe = self._servers.client.pipeline(transaction=False)
            for shard, place in positions.items():
                seq, _, number = place.partition("-")
                minid = f"{seq}-{int(number) + 1}"
                pipe.xtrim(self._key(shard), minid=minid, approximate=False)
            pipe.execute()
