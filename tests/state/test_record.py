"""Records of a table's rows, beside numpy's."""

import numpy as np
import pytest

from state.record import RecordFormat
from state.table import Column, Table

COLUMNS = [
    Column("flag", "?"),
    Column("count", "i4"),
    Column("short", "i2", 0, (3,)),
    Column("time", "i8", -1),
    Column("sums", "f8", 0.5, (2,)),
    Column("codes", "u4", 7, (5,)),
]


def filled(table, chance):
    for column in table:
        cells = table[column.name][: table.size]
        cells[...] = chance.integers(0, 2 if column.dtype == "?" else 30_000, cells.shape)


def plainly(table, rows):
    return [
        b"".join(np.ascontiguousarray(table[column.name][row]).tobytes() for column in table)
        for row in rows.tolist()
    ]


@pytest.mark.parametrize("more", [0, 1, 5_000])
def test_records_hold_the_cells_also_after_the_table_has_moved(more):
    chance = np.random.default_rng(more)
    table = Table(COLUMNS, capacity=4)
    form = RecordFormat(table)
    table.grow(4)
    filled(table, chance)
    rows = np.array([2, 0, 3, 3])
    assert form.pack(table, rows).bytes_list() == plainly(table, rows)
    table.grow(more)
    filled(table, chance)
    rows = chance.integers(0, table.size, 300)
    assert form.pack(table, rows).bytes_list() == plainly(table, rows)


def test_a_replaced_column_and_another_table_are_read_where_they_lie():
    table, other = Table(COLUMNS), Table(COLUMNS)
    form = RecordFormat(table)
    rows = np.arange(3)
    for each in (table, other):
        each.grow(3)
        filled(each, np.random.default_rng(each.size))
    form.pack(table, rows)
    table.replace(Column("time", "i8"), np.array([5, 6, 7]))
    assert form.pack(table, rows).bytes_list() == plainly(table, rows)
    other["count"][:3] = 11
    assert form.pack(other, rows).bytes_list() == plainly(other, rows)
