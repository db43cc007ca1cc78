"""Items shared between lanes: each tells what its users did, and takes over what others' did.

One lane keeps the table in the store. It notes how far it has read, writes every row that has
changed, some at a time, then the position it noted. A lane that starts loads the rows and reads on
from there; one that was away for longer than the exchange remembers loads them again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from state.item_store import BEGIN, Head, ItemStore
from state.recommending import Recommender

_ROWS_AT_ONCE = 5_000
_REMEMBERED_MS = 60_000
"""The exchange keeps entries for so long after they are stored."""


class ItemSharing:
    """Keeps one lane's items in step with the others'.

    Args:
        recommender: of the lane.
        store: of the exchange.
        save_every: exchanges between two savings.
        alive: called after each step of what takes long.
    """

    def __init__(
        self,
        recommender: Recommender,
        store: ItemStore,
        save_every: int = 5,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._recommender, self._store = recommender, store
        self._alive = alive
        self._position = BEGIN
        self._saved: deque[str] = deque([BEGIN])
        self._save_every, self._exchanges = save_every, 0
        self._untold = b""
        self._is_saving, self._saving, self._beside = False, BEGIN, b""
        self._stored = Head()
        self._unwritten: tuple[list[bytes], list[bytes]] | None = None
        self._gone: list[bytes] = []

    def open(self) -> None:
        """Load what is stored, and learn what came after it."""
        head, fields, values = self._store.load()
        self._recommender.load_items(fields, values, head.beside)
        self._recommender.take_rules(self._store.rules())
        self._position = self._saving = head.position
        self._saved, self._stored = deque([head.forgotten]), head
        self._alive()
        for place, _, block in self._store.posted(self._position):
            self._recommender.take(block)
            self._position = place

    def exchange(self) -> None:
        """Tell, take over, and save what is due.

        Raises:
            StoreUnavailable: to be tried again; what was not told waits.
        """
        self._recommender.take_rules(self._store.rules())
        self._tell()
        if not self._recommender.keeps and _is_before(self._position, self._store.head().forgotten):
            self.open()
        for place, is_own, block in self._store.posted(self._position):
            self._recommender.take(block, own=is_own)
            self._position = place
        if self._recommender.keeps:
            self._save()

    def _tell(self) -> None:
        self._untold = self._untold or self._recommender.outgoing()
        if self._untold:
            self._store.post(self._untold)
            self._untold = b""

    def _save(self) -> None:
        """Go on with writing what has changed; begin anew when it is time.

        What the store did not take is written again at the next exchange. A head that is not the
        one written last means that the store was set back, or somebody else wrote: then every row
        is written.
        """
        self._exchanges += 1
        if not self._is_saving:
            if self._exchanges < self._save_every or self._position == self._saving:
                return
            is_other = self._store.head() != self._stored
            self._exchanges, self._saving, self._is_saving = 0, self._position, True
            self._recommender.begin_saving(everything=is_other)
            self._beside = self._recommender.beside()
        if self._unwritten is None:
            self._unwritten = self._recommender.some_unsaved(_ROWS_AT_ONCE)
        fields, values = self._unwritten
        self._store.save(fields, values)
        self._unwritten = None
        if len(fields) < _ROWS_AT_ONCE:
            self._conclude()

    def _conclude(self) -> None:
        """All rows are written: delete what is not kept, then say up to where they have learned."""
        self._gone = self._recommender.forgotten(self._gone)
        self._store.forget(self._gone)
        self._gone = []
        head = Head(self._saving, self._old_enough(), self._beside)
        self._stored = head
        self._store.conclude(head)
        self._is_saving = False

    def _old_enough(self) -> str:
        """Up to where the exchange may forget."""
        self._saved.append(self._saving)
        newest_ms, _ = _parts(self._saving)
        while len(self._saved) > 1 and _parts(self._saved[1])[0] < newest_ms - _REMEMBERED_MS:
            self._saved.popleft()
        return self._saved[0]


def _parts(position: str) -> tuple[int, int]:
    """Milliseconds and number of a position."""
    millis, _, number = position.partition("-")
    return int(millis), int(number)


def _is_before(first: str, second: str) -> bool:
    return _parts(first) < _parts(second)
