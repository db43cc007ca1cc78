"""Definitions that change under a lane: nobody is forgotten, nothing is told twice.

A naive model keeps each user's memberships in a dictionary and decides them one by one. Lanes with
random definitions, random events, half-finished sweeps and losses of memory are held against it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest

from events.decode import Decoder
from events.schema import EventRules
from state.changes import decode_entry
from state.checkpoint import Checkpoint
from state.definition_set import DefinitionSet
from state.definitions import FamilySpec, SegmentSpec
from state.lane import Lane
from state.naming import Naming
from state.redefining import MARK
from state.remap import Remap
from state.store import Store
from tests.folding import fold, unique
from tests.state.streams import START_MS, plan, read_of

SHARDS = 4
FEATURES = ("lifetime.events", "lifetime.orders", "session.views")
NAMES = ("ant", "bee", "cat", "dog", "elk")
LABELS = ("low", "mid", "top", "ant", "bee")


@dataclass(frozen=True)
class Limit:
    """``feature >= least`` as text and as a test."""

    feature: str
    least: int

    @property
    def text(self) -> str:
        return f"{self.feature} >= {self.least}"

    def holds(self, person: Person) -> bool:
        return person.values[self.feature] >= self.least


@dataclass(frozen=True)
class Rules:
    """Definitions as the lane takes them, and as the model reads them."""

    tags: dict[str, tuple[Limit, Limit | None]]
    families: dict[str, list[tuple[str, Limit]]]

    def definitions(self) -> DefinitionSet:
        return DefinitionSet(
            [
                SegmentSpec(name, enter.text, f"not ({stay.text})" if stay else None)
                for name, (enter, stay) in self.tags.items()
            ],
            [
                FamilySpec(name, [(label, limit.text) for label, limit in labels])
                for name, labels in self.families.items()
            ],
        )

    def homes(self) -> dict[tuple[str, str], str]:
        """(family or nothing, name) of every segment."""
        tags = {("", name): name for name in self.tags}
        return tags | {(f, label): label for f, some in self.families.items() for label, _ in some}


@dataclass
class Person:
    """One user of the model."""

    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FEATURES, 0))
    rules: Rules | None = None
    held: set[tuple[str, str]] = field(default_factory=set)
    flips: int = 0

    def decide(self, rules: Rules) -> None:
        """Go over to these rules if need be, then decide by them."""
        goes_on = self.held & rules.homes().keys()
        self.flips += len(self.held - goes_on)
        after = {home for home in goes_on if not home[0] and self._stays(rules, home[1])}
        after |= {("", n) for n in rules.tags if ("", n) not in goes_on and self._joins(rules, n)}
        for name, labels in rules.families.items():
            after |= {(name, label) for label, limit in labels if limit.holds(self)} and {
                (name, next(label for label, limit in labels if limit.holds(self)))
            }
        self.flips += len(goes_on ^ after)
        self.held, self.rules = after, rules

    def _joins(self, rules: Rules, name: str) -> bool:
        enter, stay = rules.tags[name]
        return enter.holds(self) and (stay is None or stay.holds(self))

    def _stays(self, rules: Rules, name: str) -> bool:
        enter, stay = rules.tags[name]
        return (stay or enter).holds(self)


def random_rules(chance: random.Random) -> Rules:
    names = chance.sample(NAMES, chance.randint(0, 4))

    def limit() -> Limit:
        return Limit(chance.choice(FEATURES), chance.randint(1, 6))

    tags = {name: (limit(), limit() if chance.random() < 0.4 else None) for name in names}
    free = [label for label in LABELS if label not in names]
    chance.shuffle(free)
    families = {}
    for name in chance.sample(["size", "kind"], chance.randint(0, 2)):
        count = chance.randint(1, 2)
        families[name] = [(label, limit()) for label in free[:count]]
        free = free[count:]
    return Rules(tags, families)


class World:
    """A lane on a store, and the model of what it should do."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.store = Store(url, "t", SHARDS, give_up_s=1.0)
        self.people: dict[str, Person] = {}
        self.offset, self.at_ms = 0, START_MS
        self.records: list[bytes] = []
        self.rules = random_rules(self.chance)
        self.start()

    def start(self) -> None:
        """A lane with the rules in force, loaded from the store."""
        wanted = self.rules.definitions()
        self.lane = Lane(
            plan(
                shards=SHARDS,
                segments=wanted.segments,
                families=wanted.families,
                redefined_rows=self.chance.choice([1, 3, 100]),
                lateness_ms=0,
                timer_step_ms=1,
            ),
            range(SHARDS),
        )
        self.checkpoint = Checkpoint(self.lane, self.store)
        self.checkpoint.open()

    def redefine(self) -> None:
        """Other rules, by a hot swap or with a restart."""
        hot = self.chance.random() < 0.6
        if hot:  # only one change of definitions is under way at a time
            self.finish_sweep()
        self.commit(heartbeat=True)
        marks = self.lane.table[MARK]
        for user, person in self.people.items():
            if marks[self.lane.users.find(user)] == self.lane.redefiner.mark:
                self._go_over(person)
        self.rules = random_rules(self.chance)
        if hot:
            self.lane.adopt(self.rules.definitions())
        else:
            self.start()

    def finish_sweep(self) -> None:
        """Let everybody go over."""
        while self.lane.redefiner.left:
            self.act([])
            self.commit()
        for person in self.people.values():
            self._go_over(person)

    def _go_over(self, person: Person) -> None:
        if person.rules is not self.rules:
            person.decide(self.rules)

    def act(self, users: list[str]) -> None:
        """Some events in one batch; none only lets a second pass."""
        self.at_ms += 1_000
        kinds = self.chance.choices(["product_view", "purchase", "search"], k=len(users))
        events = [
            {"event_id": f"e{self.offset + n}", "user_id": u, "type": k, "ts": self.at_ms + n}
            for n, (u, k) in enumerate(zip(users, kinds, strict=True))
        ]
        for event in events:
            if event["type"] == "purchase":
                event["amount"] = 1
        batch, letters = Decoder(EventRules())(read_of(events, self.offset, at_end=True))
        assert not letters
        self.offset += len(events)
        for user in dict.fromkeys(users):
            person = self.people.setdefault(user, Person())
            if person.rules is not None and person.rules is not self.rules:
                person.decide(self.rules)
        for user, kind in zip(users, kinds, strict=True):
            values = self.people[user].values
            values["lifetime.events"] += 1
            values["lifetime.orders"] += kind == "purchase"
            values["session.views"] += kind == "product_view"
        for user in dict.fromkeys(users):
            self.people[user].decide(self.rules)
        self.lane.apply(batch, self.at_ms + 1_000)

    def commit(self, *, heartbeat: bool = False) -> None:
        done = self.checkpoint.commit(heartbeat=heartbeat or self.chance.random() < 0.3)
        self.records += [value for c in done for _, value in decode_entry(c.changes)]

    def lose_memory(self) -> None:
        """The lane dies, perhaps with a step of a sweep, and another starts from the commit."""
        self.commit(heartbeat=True)
        if self.chance.random() < 0.5:
            self.act([])
        self.start()

    def documents(self) -> Iterator[dict[str, Any]]:
        for shard in range(SHARDS):
            yield from (msgspec.msgpack.decode(raw) for _, raw in self.store.profiles(shard))

    def check(self) -> None:
        self.commit()
        self.finish_sweep()
        truth = {user: {name for _, name in p.held} for user, p in self.people.items()}
        changes = unique(self.records)
        folded = fold(changes)
        assert {u: folded.get(u, set()) for u in truth} == truth
        found = {d["user_id"]: d for d in self.documents()}
        assert {u: set(d["segments"]) for u, d in found.items()} == truth
        assert {u: d["changes"] for u, d in found.items()} == {
            u: p.flips for u, p in self.people.items()
        }
        for name in {*NAMES, *LABELS}:
            members = set().union(*(self.store.members(s, name) for s in range(SHARDS)))
            assert members == {u for u, held in truth.items() if name in held}, name
        sizes = dict(
            zip(self.lane.decider.plan.names, self.lane.decider.sizes.tolist(), strict=True)
        )
        assert sizes == {n: sum(n in held for held in truth.values()) for n in sizes}


@pytest.mark.servers
@pytest.mark.parametrize("seed", range(25))
def test_random_definitions_over_random_histories(store_url: str, seed: int) -> None:
    world = World(store_url, seed)
    chance = world.chance
    users = [f"u{n}" for n in range(30)]
    for _ in range(40):
        what = chance.choice(["act", "act", "act", "wait", "redefine", "commit", "lose"])
        if what == "act":
            world.act(chance.choices(users, k=chance.randint(1, 12)))
        elif what == "wait":
            world.act([])
        elif what == "redefine":
            world.redefine()
        elif what == "commit":
            world.commit()
        else:
            world.lose_memory()
    world.check()
    world.store.close()


@pytest.mark.parametrize("seed", range(200))
def test_a_remap_keeps_what_has_the_same_name_and_only_that(seed: int) -> None:
    chance = random.Random(seed)
    old, new = random_rules(chance), random_rules(chance)
    namings = [
        Naming(list(r.tags), {f: [label for label, _ in some] for f, some in r.families.items()})
        for r in (old, new)
    ]
    remap = Remap(*namings)
    rng = np.random.default_rng(seed)
    n, tags = 50, len(old.tags)
    state = _random_state(rng, n, tags, [len(some) for some in old.families.values()])
    moved = remap.state(state)
    for before, after, lost in zip(
        namings[0].masks(state).tolist(),
        namings[1].masks(moved).tolist(),
        (namings[0].masks(state) & remap.lost).tolist(),
        strict=True,
    ):
        was = set(_homes(namings[0], before))
        assert set(_homes(namings[1], after)) == was & new.homes().keys()
        assert set(_homes(namings[0], lost)) == was - new.homes().keys()


def _random_state(rng: np.random.Generator, n: int, tags: int, labels: list[int]) -> Any:
    from state.memberships import SegmentState

    family = [rng.integers(-1, count, n).astype(np.int8) for count in labels]
    return SegmentState(
        rng.integers(0, 2**tags, n).astype(np.uint64),
        rng.integers(0, 100, (n, tags)),
        np.array(family, dtype=np.int8).reshape(len(labels), n).T.copy(),
        rng.integers(0, 100, (n, len(labels))),
        np.empty((n, 0), dtype=np.int64),
    )


def _homes(naming: Naming, mask: int) -> Iterator[tuple[str, str]]:
    """(family or nothing, name) of each bit."""
    for place, name in enumerate(naming.names):
        if mask >> place & 1:
            family = [f for f, base in naming.bases.items() if place >= base]
            yield (family[-1] if family else "", name)
