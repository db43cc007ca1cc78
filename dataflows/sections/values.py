"""The kinds of values that settings have, and what is wrong with others.

A duration is written as text and held as whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
)

from dataflows.durations import duration_ms

LONGEST_MS: Final = 100 * 366 * 86_400_000
_NO_TIME: Final = "must be a time with an offset, such as 2026-12-01T00:00:00Z"


def _to_ms(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value:
        raise ValueError('must be a duration with its unit, such as "30m"')
    ms = duration_ms(value) if isinstance(value, str) else value
    if isinstance(ms, int) and ms > LONGEST_MS:
        raise ValueError("must be a duration of at most 100 years")
    return ms


def _to_optional_ms(value: Any) -> Any:
    return None if value == "" else _to_ms(value)


def _to_kept_ms(value: Any) -> Any:
    """How long something is kept: a duration, or nothing, 0 or a word for ever."""
    return None if value in ("", "never", 0) else _to_ms(value)


def _to_epoch_ms(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = datetime.min
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(_NO_TIME)
        return round(value.timestamp() * 1000)
    return value


def _flat(options: Any) -> Any:
    """``security.protocol`` names one librdkafka setting, though TOML reads a table in a table."""
    return dict(_leaves(options, "")) if isinstance(options, Mapping) else options


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float):
            yield prefix + name, value
        else:
            raise ValueError(f"{prefix}{name} must be a text, a number or true or false")


def _to_time_ms(value: Any) -> Any:
    """A TOML time, or a text, as epoch milliseconds; an empty text is none."""
    if isinstance(value, int | float):
        raise ValueError(_NO_TIME)
    return None if value == "" else _to_epoch_ms(value)


def _rising(cuts: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(cuts)):
        raise ValueError("must be four numbers, each larger than the one before")
    return cuts


Whole = Annotated[int, Strict()]
Millis = Annotated[int, Strict(), BeforeValidator(_to_ms), Field(ge=0)]
Span = Annotated[int, Strict(), BeforeValidator(_to_ms), Field(ge=1)]
"""A duration that cannot be zero."""
LongSpan = Annotated[int, Strict(), BeforeValidator(_to_ms), Field(ge=1000)]
"""A duration of at least a second."""
OptionalMillis = Annotated[
    Annotated[int, Strict(), Field(ge=0)] | None, BeforeValidator(_to_optional_ms)
]
KeptMillis = Annotated[Annotated[int, Strict(), Field(ge=1)] | None, BeforeValidator(_to_kept_ms)]
"""A duration after which something is given up, or none: never."""
Moment = Annotated[int, Strict(), BeforeValidator(_to_epoch_ms)]
"""A time: RFC 3339 text or a TOML date-time, with an offset, or epoch milliseconds."""
Options = Annotated[dict[str, str | int | float | bool], BeforeValidator(_flat)]
Four = Annotated[tuple[float, ...], Field(min_length=4, max_length=4), AfterValidator(_rising)]
OptionalMoment = Annotated[Annotated[int, Strict()] | None, BeforeValidator(_to_time_ms)]
"""A time as epoch milliseconds, or none."""
Version = Annotated[Whole, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Section(BaseModel):
    """A part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
