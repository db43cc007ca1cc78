"""Which session each event is of, beside a plain account of every user."""

import numpy as np
import pytest

from models.running_sessions import NO_SESSION, RunningSessions
from state.table import Table

GAP_MS = 50


@pytest.mark.parametrize("seed", range(6))
def test_sessions_are_those_of_a_plain_account(seed):
    rng = np.random.default_rng(seed)
    sessions, table = RunningSessions(GAP_MS), Table()
    table.add_columns("", sessions.columns())
    table.grow(5)
    account, names, at = {}, {}, 1_000
    for _ in range(80):
        n = int(rng.integers(1, 9))
        rows = np.sort(rng.integers(0, 5, n))
        at += int(rng.integers(0, 40))
        ts = at + rng.integers(-120, 30, n)
        found = sessions.update(table, rows, rng.integers(1, 9, n).astype(np.uint64), ts)
        for row, t, name in zip(rows.tolist(), ts.tolist(), found.tolist(), strict=True):
            began = account.get(row)
            if began is None or t > began[2] + GAP_MS:
                account[row] = began = [len(names) + 1, t, t]
            elif t < began[1] - GAP_MS:
                assert name == NO_SESSION
                continue
            began[1:] = min(began[1], t), max(began[2], t)
            assert name != NO_SESSION
            assert names.setdefault(began[0], name) == name
    assert len(set(names.values())) == len(names) > 20
    rows = np.array(sorted(account))
    at_ms = rng.integers(at - 200, at, (len(rows), 4))
    running = sessions.of(table, rows, at_ms)
    for k, row in enumerate(rows.tolist()):
        number, start, _ = account[row]
        assert running.key[k] == names[number]
        assert running.items[k] == sum(t >= start for t in at_ms[k].tolist())
