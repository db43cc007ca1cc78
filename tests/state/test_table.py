"""A table whose cells lie together holds what one of plain columns holds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from state.record import RecordFormat
from state.table import Column, Table

KINDS = ["?", "i1", "i2", "u4", "i8", "f8"]
SHAPES = [(), (), (), (0,), (3,), (2, 2)]


@st.composite
def columns(draw, names):
    return [
        Column(
            name,
            draw(st.sampled_from(KINDS)),
            draw(st.sampled_from([0, 1])),
            draw(st.sampled_from(SHAPES)),
            apart=draw(st.booleans()),
        )
        for name in names
    ]


STEPS = st.lists(
    st.sampled_from(["grow", "write", "reset", "add", "replace", "expect", "reach"]), max_size=12
)


def test_the_first_cells_that_lie_together_may_come_late():
    table = Table([Column("apart", "i8", 3, apart=True)], capacity=2, together=True)
    table.grow(5)
    table.add_columns("", [Column("near", "i4", 7)])
    assert (table["apart"][:5].tolist(), table["near"][:5].tolist()) == ([3] * 5, [7] * 5)


@given(st.data(), columns("abcdef"), STEPS)
def test_cells_that_lie_together_hold_what_columns_hold(data, first, steps):
    plain, together = Table(first, capacity=2), Table(first, capacity=2, together=True)
    tables = [plain, together]
    form = RecordFormat(first[:4])
    chance, more = np.random.default_rng(data.draw(st.integers(0, 99))), iter("klmnopqrstuv")
    for step in steps:
        size = tables[0].size
        rows = np.flatnonzero(chance.random(size) < 0.5)
        names = [column.name for column in tables[0]]
        name = names[int(chance.integers(len(names)))]
        values = chance.integers(0, 2, (size, *tables[0][name].shape[1:]))
        if step == "add":
            added = data.draw(columns(next(more)))
        if step == "replace":
            (other,) = data.draw(columns([name]))
            values = chance.integers(0, 2, (size, *other.shape))
        count = int(chance.integers(0, 9))
        for table in tables:
            if step == "grow":
                assert table.grow(count).tolist() == list(range(size, size + count))
            elif step == "write":
                table[name][rows] = values[rows]
            elif step == "reset":
                table.reset(rows, keep=(name,))
            elif step == "add":
                table.add_columns("new.", added)
            elif step == "replace":
                table.replace(other, values)
            elif step == "expect":
                table.expect(count)
            elif size:
                table.reach(np.array([size + count, 0]))
        assert [*plain] == [*together]
        assert plain.size == together.size
        assert plain.bytes_held() == together.bytes_held()
        for column in plain:
            cells = together[column.name]
            assert cells.dtype == plain[column.name].dtype
            assert cells.flags.aligned
            assert (cells[: plain.size] == plain[column.name][: plain.size]).all()
    if all(plain[c.name].shape[1:] == c.shape and plain[c.name].dtype == c.dtype for c in first):
        everybody = np.arange(plain.size)
        packed = [form.pack(table, everybody) for table in tables]
        assert packed[0].bytes_list() == packed[1].bytes_list()
        for table, other in zip(tables, packed[::-1], strict=True):
            before = [table[column.name][: table.size].copy() for column in first[:4]]
            table.reset(everybody)
            form.unpack(table, everybody, other, form.layout())
            for column, held in zip(first, before, strict=False):
                assert (table[column.name][: table.size] == held).all()


def test_rows_beyond_the_last_are_as_new_after_growth_and_a_cell_leaves_no_gap_that_fits_another():
    table = Table([Column("a", "i4"), Column("b", "i8", -1), Column("c", "i4")], 1, together=True)
    for count in (1, 5, 70_000):
        rows = table.grow(count)
        assert (table["a"][rows] == 0).all()
        assert (table["b"][rows] == -1).all()
        table["a"][rows] = 9
    assert table["a"].strides == table["b"].strides == (16,)
    assert (table["a"][table.size :] == 0).all()
