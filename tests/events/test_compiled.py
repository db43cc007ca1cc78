"""Compiled loops work where nothing can be kept, too."""

import numpy as np

from events import compiled as module
from events.compiled import compiled


def total(values):
    out = 0
    for value in values:
        out += value
    return out


def test_where_nothing_can_be_kept_loops_are_compiled_all_the_same(monkeypatch):
    real = module.njit

    def njit(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(module, "njit", njit)
    assert compiled(total)(np.arange(5)) == 10
