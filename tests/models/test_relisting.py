"""Whose lists hold what may not be shown, against a search through all lists."""

import numpy as np
import pytest

from models.relisting import Relisting
from state.table import Column, Table
from state.times import NEVER_MS


def users(n, length=5):
    relisting = Relisting(length, "list.at", "recent.at")
    table = Table([Column("list.at", "i8", NEVER_MS), Column("recent.at", "i8", NEVER_MS, (2,))])
    table.add_columns("", relisting.columns())
    table.grow(n)
    return relisting, table


@pytest.mark.parametrize("seed", range(20))
def test_whoever_holds_an_item_waits_the_last_active_first(seed):
    chance = np.random.default_rng(seed)
    n, length = 300, 5
    relisting, table = users(n, length)
    hashes = chance.integers(1, 2**64, 200, dtype=np.uint64)
    hashes[0] = np.uint64(7 << 32)  # its lower half is 0
    held = hashes[chance.integers(0, 200, (n, length))]
    held[np.arange(length) >= chance.integers(0, length + 1, (n, 1))] = 0
    relisting.note_lists(table, np.arange(n), held)
    table["list.at"][:n] = chance.integers(0, 100, n)
    table["recent.at"][:n, 0] = chance.permutation(n)
    blocked = np.concatenate([hashes[:1], chance.choice(hashes, 3, replace=False)])
    relisting.want_without(table, blocked, 30)
    expected = np.flatnonzero(np.isin(held, blocked).any(axis=1) & (table["list.at"][:n] >= 30))
    assert len(relisting) == len(expected)
    found = np.concatenate([relisting.take(7), relisting.take(10_000)])
    assert len(relisting) == 0
    order = np.argsort(-table["recent.at"][expected, 0])
    assert found.tolist() == expected[order].tolist()


def test_all_whose_lists_hold_wait_once():
    relisting, table = users(6)
    table["list.at"][:6] = [NEVER_MS, 5, 10, 15, 20, 25]
    table["recent.at"][:6, 0] = [9, 1, 2, 5, 4, 3]
    one = np.array([[9]], dtype=np.uint64)
    relisting.note_lists(table, np.array([3]), one)
    relisting.want_without(table, one[0], 0)
    relisting.want_all(table, 10)
    assert relisting.take(100).tolist() == [3, 4, 5, 2]
    relisting.want_without(table, one[0, :0], 0)
    assert len(relisting) == 0


def test_a_new_list_replaces_what_was_held():
    relisting, table = users(2)
    relisting.note_lists(table, np.array([0]), np.array([[1, 2, 3]], np.uint64))
    relisting.note_lists(table, np.array([0]), np.array([[4, 0, 0]], np.uint64))
    table["list.at"][:2] = 1
    relisting.want_without(table, np.array([1, 2, 3], np.uint64), 0)
    assert len(relisting) == 0
    relisting.want_without(table, np.array([4], np.uint64), 0)
    assert relisting.take(9).tolist() == [0]
