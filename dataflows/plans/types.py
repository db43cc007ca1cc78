"""The types of event that settings name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataflows.settings import SettingsError
from events.schema import TYPES


def check_types(path: str, names: Any) -> None:
    """Refuse what is no type of event.

    Raises:
        SettingsError: with the path and all types there are.
    """
    for name in names:
        if name not in TYPES:
            raise SettingsError(
                f"{path}: must be types of event ({', '.join(TYPES)}), but {name!r} came"
            )


def codes(types: Sequence[str]) -> tuple[int, ...]:
    """Types of event as their codes in batches."""
    return tuple(TYPES.index(name) for name in types)
