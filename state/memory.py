"""Arrays of zeros, long ones in pages of their own.

The system gives such pages when they are first written to and takes them back whole, so what is
not used is address space and no memory. Very long ones lie in huge pages where the system has them
(decision 13).
"""

from __future__ import annotations

import math
import mmap
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_PAGES_BYTES: Final = 1 << 20
"""From this length on arrays are mapped; shorter ones come from the heap."""

_HUGE_BYTES: Final = 2 << 20
"""From this length on in huge pages, where the system has them: rows are read here and there, and
most of what that costs is finding the page. Of shorter ones they would leave too much unused."""


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A new array of zeros.

    >>> zeros((2, 1), np.dtype("i4")).tolist()
    [[0], [0]]
    """
    length = math.prod(shape) * dtype.itemsize
    if length < _PAGES_BYTES:
        return np.zeros(shape, dtype)
    pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if length >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)
