"""Loops that numpy has no word for, compiled to machine code.

Most work on whole columns is numpy's. What it cannot do in one pass (follow the bytes of a message,
walk a hash table, go on from one row to the next) is a loop in plain Python under one of these
decorators; numba compiles it at the first call and keeps the result (``events.compiled_place``), so
only the first start after a change waits for it. Such a loop takes and fills arrays, and nothing
else: no objects, no growing, no errors raised. What calls it checks its arguments, and is what
others see.

A loop that makes no arrays is compiled without counting who holds which: that would cost more than
many a loop does. The compiler refuses one that makes some, unless it is ``allocating``. Steps are
better given numbers than arrays, because an array is passed in seven parts; so what reads bytes is
given addresses.

Measured and decided in ``docs/decisions/0008-compiled-loops.md`` and
``0025-loops-do-not-count.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from events.compiled_place import kept_in

F = TypeVar("F", bound=Callable[..., Any])

# before the first decorator asks for it
config.CACHE_DIR = str(kept_in())
config.CACHE_LOCATOR_CLASSES = "UserProvidedCacheLocator"


def compiled(loop: F) -> F:
    """A loop over arrays that is called from Python; it makes none."""
    return _kept(loop, counts=False)


def allocating(loop: F) -> F:
    """A loop that makes arrays of its own, so that who holds which must be counted.

    That costs it 20 ns for each array that it is given, and more for each that its steps are given.
    """
    return _kept(loop, counts=True)


def _kept(loop: F, *, counts: bool) -> F:
    options = {"nogil": True, "error_model": "numpy", "_nrt": counts}
    try:
        return cast(F, njit(cache=True, **options)(loop))
    except RuntimeError:  # there is no place to keep it in
        return cast(F, njit(**options)(loop))


def inlined(step: F) -> F:
    """A step of a compiled loop; becomes part of it."""
    return cast(F, njit(inline="always", error_model="numpy")(step))


def step(part: F) -> F:
    """A larger step of a compiled loop; stays a function."""
    return cast(F, njit(error_model="numpy")(part))


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.inttoptr(arguments[0], cgutils.voidptr_t)
        builder.call(call, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(address), code


def _load_of(read: types.Integer) -> Any:
    """An intrinsic that reads a number of this type, wherever it begins, from an address."""

    def typed(_context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = context.get_value_type(read)
            number = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()))
            number.align = 1
            return number

        return read(address), code

    return intrinsic(typed)


def _array_of(held: types.Integer) -> Any:
    """An intrinsic that takes what lies from an address on for an array of this type."""
    kind = types.Array(held, 1, "C")

    def typed(_context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            array = make_array(kind)(context, builder)
            place = builder.inttoptr(arguments[0], context.get_data_type(held).as_pointer())
            size = context.get_constant(types.intp, held.bitwidth // 8)
            one = context.get_constant(types.intp, 1)
            populate_array(array, place, [one], [size], size, meminfo=None)
            return array._getvalue()

        return kind(address), code

    return intrinsic(typed)


byte_at: Final = _load_of(types.uint8)
"""In a compiled loop: the byte at an address."""

word_at: Final = _load_of(types.uint64)
"""In a compiled loop: the eight bytes from an address on, the first one lowest."""

bytes_at: Final = _array_of(types.uint8)
"""In a compiled loop: what lies from an address on, as an array whose end is not known.

Whoever passes the address keeps what lies there until the loop is through."""

words_at: Final = _array_of(types.uint64)
"""As ``bytes_at``, in words of eight bytes."""


@inlined
def come_closer(array: Any, place: Any) -> None:
    """In a compiled loop: let the processor fetch what will be read soon, and go on meanwhile.

    For places that no order foretells, as in a hash table, or rows here and there: without it the
    loop waits for one after another. It is a hint, so a place beyond the end does no harm.
    """
    _prefetch(array.ctypes.data + place * array.strides[0])
