"""``afterglow settings``."""

from __future__ import annotations

from typing import Any

import tomli_w
from pydantic import SecretStr

from dataflows.settings import Settings


def print_settings(settings: Settings) -> None:
    """Print settings as TOML; durations in milliseconds, secrets as stars."""
    print("# durations in milliseconds", tomli_w.dumps(_plain(settings.model_dump())), sep="\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    return value
