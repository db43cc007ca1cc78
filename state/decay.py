"""Decayed sums in forward-decay form, kept as a mantissa and an exponent.

A decayed sum at time T is ``Σ w_i · 2^(-(T - t_i)/h)`` for weights w_i at times t_i and half-life
h. Pulling out the part that depends on T leaves ``2^(-T/h) · Σ w_i · 2^(t_i/h)``: the second factor
only ever gains terms, so events may come in any order, parts merge by addition, a silent user
needs no sweep, and the order of users by decayed value does not change with time (forward decay,
Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009).

That factor overflows a float after a thousand half-lives, so it is stored as ``m · 2^e``: the whole
half-lives of each time go to the integer exponent ``e``, by exact integer division, and only the
remaining fraction is exponentiated. One logarithm would do as well, but at a half-life of an hour
it is a number near 470,000 whose last bit is worth 4e-11 of the sum, lost anew at every batch;
mantissa and exponent keep 1e-16 per addition and cost one ``ldexp`` instead of two
transcendentals (``docs/decisions/0002-decay-as-mantissa-and-exponent.md``).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from events.compiled import allocating, compiled, inlined
from state.table import Column, Table
from state.times import FAR_MS, NEVER_MS

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

EMPTY_EXPONENT: Final = -(2**30)
"""Exponent of a sum without terms: below that of any time."""

_HALF: Final = np.int64(1 << 7)
_KEPT: Final = np.int64(-(1 << 8))
"""Adding the half and keeping these bits rounds a float to 44 bits."""

_BIAS, _FRACTION_BITS = 1023, 52
"""How a float64 holds its exponent."""

_LOOKS: Final = 4
"""Milliseconds by which the closed form may err."""

_TINY_SHIFT: Final = -2000
"""A shift that makes every sum zero; ``ldexp`` must not see larger ones."""


def columns(name: str, half_life_ms: int) -> list[Column]:
    """The two columns of one decayed sum: ``<name>.m`` and ``<name>.e``."""
    unit = str(half_life_ms)
    mantissa = Column(f"{name}.m", "f8", 0.0, unit=unit)
    return [mantissa, Column(f"{name}.e", "i4", EMPTY_EXPONENT, unit=unit)]


def half_lives(table: Table) -> dict[str, int]:
    """The decayed sums of a table and their half-lives."""
    return {c.name[:-2]: int(c.unit) for c in table if c.unit.isdigit() and c.name.endswith(".m")}


def sums(table: Table, name: str) -> tuple[F64, I32]:
    """The columns of a decayed sum, of all rows."""
    return table[f"{name}.m"], table[f"{name}.e"]


def terms(weight: ArrayLike, ts_ms: I64, half_life_ms: int) -> tuple[F64, I32]:
    """One term ``w · 2^(t/h)`` per event as (mantissa float64[n], exponent int32[n])."""
    exponent, rest = np.divmod(ts_ms, half_life_ms)
    mantissa = np.asarray(weight, dtype=np.float64) * np.exp2(rest / half_life_ms)
    return mantissa, exponent.astype(np.int32)


def add(m1: F64, e1: I32, m2: F64, e2: I32) -> tuple[F64, I32]:
    """The sum of two sums, elementwise; commutative, and associative up to rounding.

    >>> m, e = terms([3.0], np.array([7_200_000]), 3_600_000)
    >>> m, e = add(m, e, *terms([5.0], np.array([3_600_000]), 3_600_000))
    >>> at(m, e, np.array([7_200_000]), 3_600_000).tolist()
    [5.5]
    """
    exponent = np.maximum(e1, e2)
    return _shift(m1, e1 - exponent) + _shift(m2, e2 - exponent), exponent


def at(mantissa: F64, exponent: I32, t_ms: I64, half_life_ms: int) -> F64:
    """The value of each sum at its time ``t_ms`` (int64[n] or one time), float64[n].

    A time before a term's own counts that term for more than its weight, as the definition says.
    The last eight of 52 bits are rounded off (3e-14), because each product above may be wrong in
    the last one: two events of weight 4 at one time must make 8, and reach a threshold of 8.
    """
    out = np.empty(len(mantissa))
    _at(mantissa, exponent, np.full(len(out), t_ms, dtype=np.int64), half_life_ms, out)
    return out


def log2(mantissa: F64, exponent: I32) -> F64:
    """The sum in log form, ``log2 Σ w·2^(t/h)``: comparable between users at any time.

    -inf where the sum has no terms.
    """
    out = np.empty(len(mantissa))
    _log2(mantissa, exponent, out)
    return out


def converted(
    mantissa: F64, exponent: I32, at_ms: I64, half_life_ms: int, to_ms: int
) -> tuple[F64, I32]:
    """Each sum with another half-life, worth at its time ``at_ms`` what it was: (m, e).

    >>> m, e = terms([8.0], np.array([3_600_000]), 3_600_000)
    >>> m, e = converted(m, e, np.array([7_200_000]), 3_600_000, 1_800_000)
    >>> at(m, e, np.array([9_000_000]), 1_800_000).tolist()
    [2.0]
    """
    value = at(mantissa, exponent, at_ms, half_life_ms)
    m, e = terms(value, at_ms, to_ms)
    return m, np.where(value != 0.0, e, np.int32(EMPTY_EXPONENT))


def falls_below_ms(
    mantissa: F64, exponent: I32, now_ms: I64, half_life_ms: int, threshold: float
) -> I64:
    """First millisecond after ``now_ms`` at which a silent sum is below ``threshold``, int64[n].

    ``FAR_MS`` where it already is below, and for thresholds that a positive sum never reaches.
    The closed form is a float, so the answer is settled by evaluating the sum around it: what
    this returns and what ``at`` says there always agree.
    """
    out = np.full(len(now_ms), FAR_MS, dtype=np.int64)
    if threshold > 0:
        _fall_below(mantissa, exponent, now_ms, half_life_ms, threshold, out)
    return out


def _shift(mantissa: F64, by: NDArray[np.integer]) -> F64:
    """``mantissa · 2^by`` without overflow of the shift itself."""
    out: F64 = np.ldexp(mantissa, np.maximum(by, _TINY_SHIFT).astype(np.int32))
    return out


@compiled
def _at(mantissa: F64, exponent: I32, t_ms: I64, half_life_ms: int, out: F64) -> None:
    bits = out.view(np.int64)
    for i in range(len(out)):
        _put(i, mantissa[i], exponent[i], t_ms[i], half_life_ms, out, bits)


@inlined
def _put(
    i: int, mantissa: Any, exponent: Any, t_ms: Any, half_life_ms: int, out: F64, bits: I64
) -> None:
    """The value of one sum at a time; ``bits`` are those of ``out``."""
    halves = t_ms // half_life_ms
    by = exponent - halves
    if mantissa == 0.0 or by <= _TINY_SHIFT:
        out[i] = 0.0
    else:
        value = mantissa * np.exp2(-((t_ms - halves * half_life_ms) / half_life_ms))
        if abs(by) < _BIAS:
            bits[i] = (by + _BIAS) << _FRACTION_BITS  # the power of two, written as a float
            out[i] *= value
        else:
            out[i] = np.ldexp(value, by)
        bits[i] = (bits[i] + _HALF) & _KEPT


@compiled
def _log2(mantissa: F64, exponent: I32, out: F64) -> None:
    for i in range(len(out)):
        out[i] = np.log2(mantissa[i]) + exponent[i] if mantissa[i] > 0 else -np.inf


@allocating
def _fall_below(
    mantissa: F64, exponent: I32, now_ms: I64, half_life_ms: int, threshold: float, out: I64
) -> None:
    """The closed form for those that are not below, and a few looks around it."""
    value = np.empty(1)
    bits = value.view(np.int64)
    for i in range(len(out)):
        m, e, now = mantissa[i], np.int64(exponent[i]), now_ms[i]
        _put(0, m, e, now, half_life_ms, value, bits)
        if not value[0] >= threshold:
            continue
        halves = (np.log2(m) - np.log2(threshold)) * half_life_ms
        guess = max(e * half_life_ms + np.int64(np.ceil(halves)), now + 1)
        for _ in range(_LOOKS):
            _put(0, m, e, guess, half_life_ms, value, bits)
            if value[0] < threshold:
                break
            guess += 1
        for _ in range(_LOOKS):
            _put(0, m, e, guess - 1, half_life_ms, value, bits)
            if guess - 1 <= now or value[0] >= threshold:
                break
            guess -= 1
        out[i] = guess


@compiled
def add_events(
    index: I64,
    row_of: I64,
    ts_ms: I64,
    weight: F64,
    half_life_ms: int,
    mantissas: F64,
    exponents: I32,
) -> None:
    """Add an event's term to its row's sum, one by one; what weighs nothing is left out.

    Args:
        index: places of the events in the batch, int64[n].
        row_of: the row of each, int64[n].
        ts_ms: times of the whole batch, int64[batch].
        weight: what each of it adds, float64[batch].
        half_life_ms: of the sums.
        mantissas: the sums' mantissas, by row; changed.
        exponents: their exponents, by row; changed.
    """
    for k in range(len(index)):
        i, row = index[k], row_of[k]
        if weight[i] == 0.0:
            continue
        mantissa, exponent = _term(weight[i], ts_ms[i], half_life_ms)
        _add(row, mantissa, exponent, mantissas, exponents)


@compiled
def add_terms(row_of: I64, mantissa: F64, exponent: I32, mantissas: F64, exponents: I32) -> None:
    """Add terms, int64[n] rows and n mantissas and exponents, to their rows' sums, one by one."""
    for k in range(len(row_of)):
        _add(row_of[k], mantissa[k], exponent[k], mantissas, exponents)


@compiled
def move_terms(
    row_of: I64,
    before_ms: I64,
    after_ms: I64,
    weight: F64,
    half_life_ms: int,
    mantissas: F64,
    exponents: I32,
) -> None:
    """Let what counts in a row's sum at one time count at a later one, by adding the difference.

    The term ``w · (2^(after/h) - 2^(before/h))`` is added, all of it where there was no before.

    Args:
        row_of: rows, int64[n].
        before_ms: when each has counted, int64[n]; ``NEVER_MS`` for not at all.
        after_ms: when it is to count, int64[n]; what is not later than before stays.
        weight: float64[n].
        half_life_ms: of the sums.
        mantissas: the sums' mantissas, by row; changed.
        exponents: their exponents, by row; changed.
    """
    for k in range(len(row_of)):
        if weight[k] == 0.0 or after_ms[k] <= before_ms[k]:
            continue
        mantissa, exponent = _term(weight[k], after_ms[k], half_life_ms)
        if before_ms[k] != NEVER_MS:
            old_mantissa, old_exponent = _term(-weight[k], before_ms[k], half_life_ms)
            mantissa += np.ldexp(old_mantissa, max(old_exponent - exponent, _TINY_SHIFT))
        _add(row_of[k], mantissa, exponent, mantissas, exponents)


@inlined
def shifted(mantissa: float, by: int) -> float:
    """``mantissa · 2^by`` of one sum, in a compiled loop."""
    return mantissa if by == 0 or mantissa == 0.0 else np.ldexp(mantissa, max(by, _TINY_SHIFT))


@inlined
def _term(weight: Any, ts_ms: Any, half_life_ms: int) -> Any:
    """One term ``w · 2^(t/h)`` as mantissa and exponent."""
    exponent = ts_ms // half_life_ms
    return weight * np.exp2((ts_ms - exponent * half_life_ms) / half_life_ms), exponent


@inlined
def _add(row: int, mantissa: Any, exponent: Any, mantissas: F64, exponents: I32) -> None:
    """Add one term to a row's sum."""
    ahead = exponent - exponents[row]
    if ahead > 0:
        mantissas[row] = np.ldexp(mantissas[row], -min(ahead, -_TINY_SHIFT)) + mantissa
        exponents[row] = exponent
    else:
        mantissas[row] += np.ldexp(mantissa, max(ahead, _TINY_SHIFT))
