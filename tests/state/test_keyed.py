"""The keyed table against a dict, and through the store's form and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.chain import Chain
from state.keyed import KeyedTable, record_bytes
from state.table import Column

COLUMNS = [Column("value", "i8", 5), Column("guess", "i4", -7)]
pairs = st.tuples(st.integers(0, 6), st.integers(0, 8))
steps = st.lists(
    st.tuples(st.lists(pairs, max_size=12), st.lists(pairs, unique=True, max_size=12)), max_size=12
)


def arrays(of):
    columns = np.array(of, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1].astype(np.uint64)


def contents(table):
    slots = table.live()
    return {
        (owner, key): value
        for owner, key, value in zip(
            table["owner"][slots].tolist(),
            table["key"][slots].tolist(),
            table["value"][slots].tolist(),
            strict=True,
        )
    }


def grouped(table, owners):
    slots, place = table.of(owners)
    assert (np.diff(place) >= 0).all()
    assert (table["owner"][slots] == owners[place]).all()
    return sorted(zip(owners[place].tolist(), table["key"][slots].tolist(), strict=True))


@settings(max_examples=200)
@given(steps, st.booleans(), st.booleans())
def test_is_a_dict_of_owner_and_key(stream, listed, many):
    table, model, number = KeyedTable(COLUMNS, listed=listed), {}, 0
    if many:  # too many to walk along
        stream = [([(5, key) for key in range(100, 1_200)], []), *stream]
    for added, ended in stream:
        slots = table.find_or_add(*arrays(added))
        held = table["value"][slots].tolist()
        assert held == [model.get(pair, 5) for pair in added]
        for pair, slot in zip(added, slots.tolist(), strict=True):
            number += 1
            table["value"][slot] = model[pair] = number
        gone = [pair for pair in ended if pair in model]
        table.delete(table.find(*arrays(gone)))
        for pair in gone:
            del model[pair]
        assert contents(table) == model
        assert len(table) == len(model)
        owners = np.array([5, 0, 100, 3, 6])
        assert grouped(table, owners) == sorted(pair for pair in model if pair[0] in (0, 3, 5, 6))
        if listed:
            counts = [sum(owner == o for owner, _ in model) for o in owners.tolist()]
            assert table.counts(owners).tolist() == counts
        found = table.find(*arrays([(0, 0), (6, 8)]))
        assert (found >= 0).tolist() == [(0, 0) in model, (6, 8) in model]


@settings(max_examples=100)
@given(st.permutations(range(12)), st.integers(0, 12))
def test_neighbours_leave_a_list_together(order, count):
    chain = Chain()
    chain.link(np.zeros(12, dtype=np.int64), np.arange(12))
    leaving = np.array(order[:count], dtype=np.int64)
    chain.unlink(np.zeros(count, dtype=np.int64), leaving)
    slots, _, long = chain.walk(np.array([0]), longest=20)
    assert sorted(slots.tolist()) == sorted(order[count:])
    assert len(long) == 0
    chain.unlink(np.zeros(12 - count, dtype=np.int64), np.array(order[count:], dtype=np.int64))
    assert chain.counts(np.array([0])).tolist() == [0]
    assert len(chain.walk(np.array([0]), longest=20)[0]) == 0


def test_only_lists_that_are_too_long_are_given_up():
    chain = Chain()
    chain.link(np.array([7, 2, 7, 2, 2]), np.arange(5))
    slots, place, long = chain.walk(np.array([9, 7, 3, 2]), longest=2)
    assert (slots.tolist(), place.tolist(), long.tolist()) == ([0, 2], [1, 1], [3])
    chain.link(np.array([7]), np.array([8]))
    assert chain.walk(np.array([7]), longest=3)[0].tolist() == [8, 0, 2]


def stored(table, store, serials):
    """What the store holds after a commit of all that is pending."""
    pending = table.pending()
    removed = table.pack_fields(pending.removed_owners, pending.removed_keys, serials)
    for field in removed.bytes_list():
        store.pop(field, None)
    fields, values = table.pack(pending.slots, serials)
    store.update(zip(fields.bytes_list(), values.bytes_list(), strict=True))
    table.settle()


@settings(max_examples=100)
@given(steps)
def test_commits_of_changes_add_up_to_the_table(stream):
    table, store = KeyedTable(COLUMNS, transient=["guess"]), {}
    serials = np.arange(10, dtype=np.uint32) * 3 + 1
    row_of_serial = np.full(40, -1, dtype=np.int64)
    row_of_serial[serials] = np.arange(10)
    for number, (added, ended) in enumerate(stream):
        slots = table.find_or_add(*arrays(added))
        table["value"][slots] = number
        table.mark(slots)
        found = table.find(*arrays(ended))
        table.delete(found[found >= 0])
        stored(table, store, serials)
        assert len(table.pending().slots) == 0
    again = KeyedTable([*COLUMNS, Column("later", "f8", 0.5)], transient=["guess"])
    slots = again.load(list(store), list(store.values()), row_of_serial, table.layout(), seq=3)
    assert contents(again) == contents(table)
    assert (again["guess"][slots] == -7).all()
    assert (again["later"][slots] == 0.5).all()
    assert (again["seq"][slots] == 3).all()
    assert len(again.pending().slots) == 0
    assert grouped(again, np.arange(7)) == sorted(contents(table))


def test_settling_some_owners_leaves_the_others_pending():
    table = KeyedTable(COLUMNS)
    slots = table.find_or_add(*arrays([(0, 1), (1, 1), (2, 1)]))
    table.delete(slots[2:])
    table.settle(done=np.array([True, False, False]))
    pending = table.pending()
    assert pending.slots.tolist() == [slots[1]]
    assert pending.removed_owners.tolist() == [2]
    table.settle()
    assert len(table.pending().slots) + len(table.pending().removed_keys) == 0


def test_a_stored_entry_without_a_user_is_refused_in_words():
    table = KeyedTable(COLUMNS)
    slots = table.find_or_add(*arrays([(0, 1)]))
    fields, values = table.pack(slots, np.array([4], dtype=np.uint32))
    stored = fields.bytes_list(), values.bytes_list()
    assert len(stored[1][0]) == record_bytes(table.layout())
    with pytest.raises(ValueError, match="serial 4 has none"):
        KeyedTable(COLUMNS).load(*stored, np.full(5, -1), table.layout())


def test_new_entries_take_the_values_that_are_given_also_in_used_slots():
    table = KeyedTable([*COLUMNS, Column("row", "f4", 3, (2,))])
    for first in (0, 3, 0):  # new slots, then used ones beside new ones, then all used again
        owners, keys = np.arange(first, 4), np.arange(first, 4).astype(np.uint64)
        rows = np.column_stack([owners, owners + 0.5])
        slots = table.add(owners, keys, value=owners * 10, row=rows)
        assert table.find(owners, keys).tolist() == slots.tolist()
        assert table["value"][slots].tolist() == (owners * 10).tolist()
        assert table["row"][slots].tolist() == rows.tolist()
        assert (table["guess"][slots] == -7).all()
        assert np.isin(slots, table.pending().slots).all()
        table["guess"][slots], table["row"][slots] = 1, 1
        table.delete(slots)
    assert (table["row"][table.add(np.array([9]), np.array([9], np.uint64))] == 3).all()


def test_slots_are_used_again():
    table = KeyedTable(COLUMNS)
    seen = set()
    for key in range(300):
        slots = table.find_or_add(*arrays([(1, key), (2, key)]))
        seen |= set(slots.tolist())
        table.delete(slots)
        table.settle()
    assert len(seen) == 2


@pytest.mark.parametrize("change", [lambda value: value[:-1], lambda value: value + b"."])
def test_a_stored_entry_of_another_length_is_refused_in_words(change):
    table = KeyedTable(COLUMNS)
    slots = table.find_or_add(*arrays([(0, 1), (0, 2)]))
    fields, values = table.pack(slots, np.array([0], dtype=np.uint32))
    first, second = values.bytes_list()
    stored = fields.bytes_list(), [first, change(second)]
    with pytest.raises(ValueError, match="the stored layout does not fit them"):
        KeyedTable(COLUMNS).load(*stored, np.zeros(1, dtype=np.int64), table.layout())


def test_entries_without_an_index_are_counted_and_listed_but_not_found():
    table = KeyedTable(COLUMNS, found=False)
    table.expect(5_000)
    slots = table.add(*arrays([(3, 1), (3, 2), (4, 1)]))
    table.delete(slots[:1])
    assert len(table) == 2
    assert sorted(table.of(np.array([3]))[0].tolist()) == [slots[1]]
    with pytest.raises(TypeError, match="only where they are indexed"):
        table.find(*arrays([(3, 2)]))
