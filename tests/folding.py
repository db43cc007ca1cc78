"""What a consumer of the change topic ends up with, and what the store says in its place.

A consumer drops copies by their id and folds the rest, user by user; it needs no gap to be left in
``n``. Where the store itself was set back, a record of a higher epoch replaces what came before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from state.changes import Change
from state.store import Store

Document = dict[str, Any]
Memberships = dict[str, set[str]]

_decoder = msgspec.json.Decoder(Change)


def unique(records: Iterable[bytes]) -> list[Change]:
    """Each change where its first copy stands; all its copies must be the same."""
    first: dict[str, bytes] = {}
    for record in records:
        change = _decoder.decode(record)
        assert first.setdefault(change.id, record) == record, f"two changes have one id: {change}"
    return [_decoder.decode(record) for record in first.values()]


def fold(changes: Iterable[Change]) -> Memberships:
    """Everybody's memberships; ``n`` must rise by one from 1, whatever the epoch."""
    counts: dict[str, int] = {}
    held: Memberships = {}
    for change in changes:
        count = counts.get(change.user_id, 0) + 1
        assert change.n == count, f"change {count} of {change.user_id} is missing: {change}"
        counts[change.user_id] = count
        _take(held.setdefault(change.user_id, set()), change)
    return held


def fold_epochs(changes: Iterable[Change]) -> Memberships:
    """Everybody's memberships; ``n`` rises by one within an epoch, a higher epoch replaces."""
    at: dict[str, tuple[int, int]] = {}
    held: Memberships = {}
    for change in changes:
        epoch, n = at.get(change.user_id, (0, 0))
        assert change.epoch >= epoch, f"epoch {epoch} was there before: {change}"
        if change.epoch == epoch:
            assert change.n == n + 1, f"change {n + 1} of epoch {epoch} is missing: {change}"
            _take(held[change.user_id], change)
        held[change.user_id] = set(change.segments)
        at[change.user_id] = change.epoch, change.n
    return held


def _take(held: set[str], change: Change) -> None:
    if change.action == "entered":
        assert change.segment not in held, f"entered twice: {change}"
        held.add(change.segment)
    else:
        assert change.segment in held, f"left without being in: {change}"
        held.remove(change.segment)
    assert sorted(change.segments) == sorted(held), change


def documents(store: Store) -> dict[str, Document]:
    """Every stored profile by user."""
    return {
        user: msgspec.msgpack.decode(raw)
        for shard in range(store.shards)
        for user, raw in store.profiles(shard)
    }


def assert_folded(held: Memberships, store: Store, names: Iterable[str]) -> None:
    """Folded memberships are those of the profiles and those of the segments' sets."""
    in_profiles = {user: set(d["segments"]) for user, d in documents(store).items()}
    in_sets: Memberships = {user: set() for user in in_profiles}
    for name in names:
        for shard in range(store.shards):
            for user in store.members(shard, name):
                in_sets[user].add(name)
    _assert_same(in_sets, in_profiles, "the segments' sets and the profiles")
    folded = {user: set[str]() for user in in_profiles} | held
    _assert_same(folded, in_profiles, "the changes and the profiles")


def assert_counted(changes: Iterable[Change], store: Store) -> None:
    """Each profile knows how many changes of its user were published."""
    counts = Counter(change.user_id for change in changes)
    stored = {user: d["changes"] for user, d in documents(store).items() if d["changes"]}
    _assert_same(counts, stored, "the number of changes and the profiles")


def _assert_same(found: Mapping[str, Any], truth: Mapping[str, Any], what: str) -> None:
    differ = {
        user: (found.get(user), truth.get(user))
        for user in sorted(found.keys() | truth.keys())
        if found.get(user) != truth.get(user)
    }
    assert not differ, f"{what} differ for {len(differ)} users: {dict(list(differ.items())[:3])}"


def assert_values(found: Mapping[str, Any], truth: Mapping[str, Any], names: Iterable[str]) -> None:
    """Whole numbers and texts are equal, other numbers to 1e-9."""
    for name in names:
        _assert_value(found[name], truth[name], f"{found['user_id']}: {name}")


def _assert_value(found: Any, truth: Any, where: str) -> None:
    if isinstance(truth, Mapping):
        assert found.keys() == truth.keys(), where
        for name in truth:
            _assert_value(found[name], truth[name], f"{where}.{name}")
    elif isinstance(truth, float):
        assert math.isclose(found, truth, rel_tol=1e-9, abs_tol=1e-9), (where, found, truth)
    else:
        assert found == truth, (where, found, truth)
