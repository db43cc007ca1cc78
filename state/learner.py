"""What a lane asks of its models: it hands them views and keeps their memory, and never learns.

Labels take time, so models **park** snapshots of users, and what became of them is an **example**
once its time has passed. Parked snapshots are a side table, stored with the shards of their users.
Examples leave with the commit that ends their snapshots, shard by shard; one lane of several learns
from all of them and shares what it has learned (``docs/decisions/0009-one-lane-learns.md``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from state.features import Feature, RowView
from state.groups import Groups
from state.keyed import KeyedTable

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Entries = Mapping[int, Sequence[tuple[str, bytes]]]
"""Examples by shard, as the store has them: (place, examples), oldest first."""


@dataclass(slots=True, frozen=True)
class Score:
    """A score as profiles show it: its name, and what sort of number it is."""

    name: str
    kind: Literal["int", "float"] = "float"


class Learner(Protocol):
    """Models that learn from the stream and score users."""

    scores: Sequence[Score]
    """What they say of each user; NaN while they cannot say it."""

    validity_ms: int
    """How long a score holds after it was computed."""

    parked: KeyedTable
    """Snapshots that wait for their label; stored with the shards of their users."""

    trains: bool
    """Whether this lane is the one that learns."""

    def attach(self, features: Mapping[str, Feature]) -> dict[str, Feature]:
        """Get to know the lane's features; gives the scores as features, by name."""

    def observe(self, view: RowView, groups: Groups, batch: Batch) -> None:
        """A batch has been applied; the view shows its users after it."""

    def forget(self, rows: I64) -> None:
        """These users leave: what is parked of them is not learned."""

    def mature(self, clock_ms: int) -> None:
        """Make examples of the snapshots whose time the clock has passed."""

    def wants_population(self, clock_ms: int) -> bool:
        """Whether it is time to look at many users at once."""

    def learn_population(self, view: RowView) -> None:
        """Look at a fair sample of the users."""

    def outgoing(self, shard_of: NDArray[np.integer]) -> dict[int, bytes]:
        """Examples that are not stored yet, by shard; ``shard_of`` is the users' column."""

    def settle(self) -> None:
        """The store has them."""

    def positions(self) -> Mapping[int, str]:
        """Up to which place of each shard's examples it has learned; of the lane that learns."""

    def learn(self, entries: Entries) -> bool:
        """Learn stored examples; whether there is anything new to be kept."""

    def memory(self) -> bytes:
        """All that it must not forget, positions included."""

    def published(self) -> bytes:
        """What other lanes need for scoring."""

    def adopt(self, published: bytes | None) -> None:
        """Score by what the lane that learns has published, if that is newer."""

    def restore(self, memory: bytes | None, published: bytes | None) -> None:
        """Take over what was kept; the parked snapshots are loaded by then."""

    def reset(self, names: Sequence[str]) -> None:
        """Begin some models anew; those it does not have are passed over."""

    def preparing(self) -> Iterator[None]:
        """What takes long, in small steps that another thread may take while events come."""

    def alerts(self) -> list[str]:
        """What somebody should know and was not told yet."""

    def quality(self) -> dict[str, dict[str, float | None]]:
        """By model, how well it does; None for what is not known yet."""
