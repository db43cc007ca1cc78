"""Durations as people write them, ``1h30m``, and as the engine keeps them, milliseconds."""

from __future__ import annotations

import re
from typing import Final

_UNIT_MS: Final = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_PART: Final = re.compile(r"([0-9]+)(ms|s|m|h|d|w)")
_WHOLE: Final = re.compile(r"(?:[0-9]+(?:ms|s|m|h|d|w))+")


def duration_ms(text: str) -> int:
    """Milliseconds of a duration.

    >>> duration_ms("1h30m"), duration_ms("250ms")
    (5400000, 250)

    Raises:
        ValueError: not a duration.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError('must be a duration such as "250ms", "30s", "5m", "1h30m" or "7d"')
    return sum(int(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text))


def duration_text(ms: int) -> str:
    """A duration as text, the two largest units of it.

    >>> duration_text(5_400_000), duration_text(183_845_000), duration_text(250)
    ('1 h 30 min', '2 d 3 h', '250 ms')
    """
    names = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))
    parts = []
    for name, unit_ms in names:
        count, ms = divmod(ms, unit_ms)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 ms"
