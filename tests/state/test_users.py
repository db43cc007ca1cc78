"""Users have the rows of their numbers, however many come at once, new or restored."""

import numpy as np

from events.texts import Texts
from state.table import Table
from state.users import COLUMNS, Users


def test_more_users_than_the_table_has_room_for_come_at_once():
    for restored in (False, True):
        table = Table(COLUMNS, capacity=4)
        users = Users(table, shards=8)
        ids = [f"u{i}" for i in range(100)]
        if restored:
            rows = users.restore(5, Texts.of(ids))
            assert set(table["shard"][:100].tolist()) == {5}
        else:
            rows = users.rows(Texts.of(ids))
            pairs = zip(table["shard"][:100].tolist(), table["serial"][:100].tolist(), strict=True)
            assert len(set(pairs)) == 100
        assert rows.tolist() == list(range(100)) == [users.find(user) for user in ids]
        assert (table.size, users.find("stranger")) == (100, -1)


def test_new_serials_begin_above_those_that_are_stored():
    table = Table(COLUMNS)
    users = Users(table, shards=1)
    users.restore(0, Texts.of(["a"]))
    users.restored(0, np.array([7], np.uint32))
    assert table["serial"][users.rows(Texts.of(["b", "c"]))].tolist() == [8, 9]
