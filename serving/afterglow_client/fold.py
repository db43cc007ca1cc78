"""Folding changes into where everybody stands, whatever became of them on the way.

A change is taken when it is the next one of its user and fits what was told. One that is not newer
is a repeat, or came late, and is dropped: what it said was made up for already. One from beyond the
next leaves a gap: a correction takes the user to where that change begins. So what was told, folded
in order, is always where the user stands by the newest record seen.

A record is newer by (epoch, n): a higher epoch replaces, because the engine's store may have lost
what was published, and then history took another course. A user whom the engine has forgotten, and
who comes back, counts from one again in a higher epoch. The places of the last who were removed are
remembered, so that what is repeated of them is known as a repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from afterglow_client.errors import UNREADABLE, NotAfterglow
from afterglow_client.news import Change, Correction, News, Reason, Standing

VERSION: Final = 1
"""Of the saved form."""

_REMOVED: Final = 100_000
"""So many removed users are remembered."""

Segments = tuple[str, ...]


class Counts(msgspec.Struct):
    """What came, for monitors.

    Attributes:
        changes: taken, each once.
        repeats: dropped, because they were not newer than what was known.
        corrections: told instead of changes that did not come in order.
        missed: changes that corrections stand for, as far as they can be counted.
    """

    changes: int = 0
    repeats: int = 0
    corrections: int = 0
    missed: int = 0


class _Saved(msgspec.Struct, array_like=True):
    version: int
    sets: list[Segments]
    users: list[tuple[str, int, int, int]]
    counts: Counts
    removed: list[tuple[str, int, int]] = []


class Fold:
    """Where everybody stands by what was told; a user who is not known is in no segment.

    >>> fold = Fold()
    >>> fold.load(Standing("ann", epoch=1, n=4, segments=["vip"]))
    >>> fold.segments("ann")
    ('vip',)
    >>> late = fold.settle(Standing("ann", epoch=1, n=6, segments=["lapsing"]))
    >>> [(c.entered, c.exited, c.missed, c.reason) for c in late]
    [(('lapsing',), ('vip',), 2, 'unheard')]
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, int, Segments]] = {}
        self._removed: dict[str, tuple[int, int]] = {}
        self._sets: dict[Segments, Segments] = {}
        self.counts = Counts()

    def __len__(self) -> int:
        return len(self._held)

    # -- what is known ------------------------------------------------------------------------

    def segments(self, user_id: str) -> Segments:
        """A user's segments, by the alphabet."""
        return self._held.get(user_id, _NOWHERE)[2]

    def everyone(self) -> Iterator[tuple[str, Segments]]:
        """Every user who was ever in a segment, and those the user is in now."""
        return ((user_id, held[2]) for user_id, held in self._held.items())

    def place(self, user_id: str) -> tuple[int, int]:
        """Epoch and count of the newest change known of a user; (0, 0) of nobody."""
        held = self._held.get(user_id)
        return self._removed.get(user_id, (0, 0)) if held is None else held[:2]

    # -- what comes ---------------------------------------------------------------------------

    def load(self, standing: Standing) -> None:
        """Begin from where a user stands, without telling; an older standing is passed over."""
        if (standing.epoch, standing.n) > self.place(standing.user_id):
            self._put(standing.user_id, standing.epoch, standing.n, standing.segments)

    def unload(self, user_id: str, place: tuple[int, int] | None) -> None:
        """Begin without a user who was removed at a place, without telling."""
        held = self._held.get(user_id)
        if place is None:
            place = self.place(user_id)
        if held is None or held[:2] <= place:
            self._remove(user_id, place)

    def change(self, change: Change) -> list[News]:
        """What a change tells: nothing, itself, or a correction and itself."""
        if (change.epoch, change.n) <= self.place(change.user_id):
            self.counts.repeats += 1
            return []
        _, n, told = self._held.get(change.user_id, _NOWHERE)
        before = {*change.segments} ^ {change.segment}
        missed = max(change.n - n - 1, 0)
        news: list[News] = []
        if missed or before != {*told}:
            reason: Reason = "gap" if missed else "history"
            news.append(
                self._correct(change.user_id, before, change.epoch, change.n - 1, missed, reason)
            )
        self._put(change.user_id, change.epoch, change.n, change.segments)
        self.counts.changes += 1
        return [*news, change]

    def is_ahead(self, standing: Standing) -> bool:
        """Whether a user has changed by more than was told."""
        return (standing.epoch, standing.n) > self.place(standing.user_id)

    def settle(self, standing: Standing) -> list[News]:
        """What is told when a standing is ahead and its changes are not to come any more."""
        if not self.is_ahead(standing):
            return []
        _, n = self.place(standing.user_id)
        missed = max(standing.n - n, 0)
        reason: Reason = "unheard" if missed else "history"
        return [
            self._correct(
                standing.user_id, {*standing.segments}, standing.epoch, standing.n, missed, reason
            )
        ]

    def forget(self, user_id: str, place: tuple[int, int]) -> list[News]:
        """What is told when a user was removed at a place; nothing if the user has moved since."""
        _, n, told = held = self._held.get(user_id, _NOWHERE)
        if held[:2] > place:
            return []
        news: list[News] = []
        if told:
            news.append(self._correct(user_id, set(), *place, max(place[1] - n, 0), "gone"))
        self._remove(user_id, place)
        return news

    # -- saving -------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """All of it as bytes."""
        numbers = {segments: number for number, segments in enumerate(self._sets)}
        users = [(u, epoch, n, numbers[held]) for u, (epoch, n, held) in self._held.items()]
        removed = [(u, *place) for u, place in self._removed.items()]
        return msgspec.msgpack.encode(_Saved(VERSION, list(numbers), users, self.counts, removed))

    @classmethod
    def restored(cls, raw: bytes) -> Fold:
        """What was dumped.

        Raises:
            NotAfterglow: these bytes are none.
        """
        try:
            saved = msgspec.msgpack.decode(raw, type=_Saved)
            if saved.version != VERSION:
                raise ValueError(f"its version is {saved.version}, not {VERSION}")
            fold = cls()
            fold.counts = saved.counts
            for user_id, epoch, n, number in saved.users:
                fold._put(user_id, epoch, n, saved.sets[number])
            fold._removed = {user_id: (epoch, n) for user_id, epoch, n in saved.removed}
        except (*UNREADABLE, ValueError, IndexError) as error:
            raise NotAfterglow(
                f"the saved state of a consumer cannot be read ({error}): begin without it, and "
                "everybody's segments are taken from the memberships topic"
            ) from error
        return fold

    # -- inside -------------------------------------------------------------------------------

    def _correct(
        self, user_id: str, now: set[str], epoch: int, n: int, missed: int, reason: Reason
    ) -> Correction:
        told = {*self.segments(user_id)}
        self._put(user_id, epoch, n, now)
        self.counts.corrections += 1
        self.counts.missed += missed
        return Correction(
            user_id=user_id,
            entered=tuple(sorted(now - told)),
            exited=tuple(sorted(told - now)),
            segments=sorted(now),
            epoch=epoch,
            n=n,
            missed=missed,
            reason=reason,
        )

    def _remove(self, user_id: str, place: tuple[int, int]) -> None:
        self._held.pop(user_id, None)
        self._removed.pop(user_id, None)
        self._removed[user_id] = place
        if len(self._removed) > _REMOVED:
            del self._removed[next(iter(self._removed))]

    def _put(self, user_id: str, epoch: int, n: int, segments: Iterable[str]) -> None:
        held = tuple(sorted(segments))
        self._removed.pop(user_id, None)
        self._held[user_id] = epoch, n, self._sets.setdefault(held, held)


_NOWHERE: Final[tuple[int, int, Segments]] = (0, 0, ())
