"""Loops that numpy has no word for, compiled to machine code.

Most work on whole columns is numpy's. What it cannot do in one pass (follow the bytes of a message,
walk a hash table, go on from one row to the next) is a loop in plain Python under one of these
decorators; numba compiles it at the first call and keeps the result beside the source, so only the
first start after a change waits for it. Such a loop takes and fills arrays, and nothing else: no
objects, no growing, no errors raised. What calls it checks its arguments, and is what others see.

Measured and decided in ``docs/decisions/0008-compiled-loops.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(loop: F) -> F:
    """A loop over arrays that is called from Python."""
    try:
        return cast(F, njit(cache=True, nogil=True, error_model="numpy")(loop))
    except RuntimeError:  # nowhere to keep the result: compile at every start
        return cast(F, njit(nogil=True, error_model="numpy")(loop))


def inlined(step: F) -> F:
    """A step of a compiled loop; becomes part of it."""
    return cast(F, njit(inline="always", error_model="numpy")(step))


def step(part: F) -> F:
    """A larger step of a compiled loop; stays a function."""
    return cast(F, njit(error_model="numpy")(part))
