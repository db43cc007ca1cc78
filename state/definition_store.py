"""Revisions of definitions in the store: one hash, a field for each, never changed.

A number can be claimed only once, so of two people who change definitions at the same time one is
told to look again; and whatever a process was doing when it died, a revision is there or it is not.
"""

from __future__ import annotations

from state.revisions import Revision
from state.store import Store
from state.store_errors import in_words

KEY = "segments"


class DefinitionStore:
    """Revisions under one prefix: ``ag:segments``, a field for each number.

    Args:
        store: the lane's, or a command's.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = f"{store.prefix}:{KEY}"

    def count(self) -> int:
        """How many there are, which is the number of the one in force; 0 for none.

        Raises:
            StoreUnavailable: the store does not answer; to be asked again.
        """
        with in_words("the definitions of segments could not be read"):
            return int(self._store.client.hlen(self._key))

    def live(self) -> Revision | None:
        """The one in force; None if there is none."""
        count = self.count()
        return self.at(count) if count else None

    def at(self, number: int) -> Revision | None:
        """One of them; None if there is none of that number."""
        with in_words("the definitions of segments could not be read"):
            raw = self._store.client.hget(self._key, str(number))
        return None if raw is None else Revision.decode(raw)

    def all(self) -> list[Revision]:
        """All of them, the first one first."""
        with in_words("the definitions of segments could not be read"):
            found = self._store.client.hvals(self._key)
        return sorted(map(Revision.decode, found), key=lambda revision: revision.number)

    def publish(self, revision: Revision) -> bool:
        """Put a revision in force; false if there is one of that number already."""
        with in_words("the definitions of segments could not be written"):
            number = str(revision.number)
            return bool(self._store.client.hsetnx(self._key, number, revision.encode()))
