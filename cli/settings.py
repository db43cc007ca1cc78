"""``afterglow settings``: what is in force, as a file that could be given back with ``--config``.

Every value stands as it was written, with where that was. Secrets are stars, so whoever uses the
output as a file must give them through the environment, as they should.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import tomli_w
from pydantic import SecretStr

from cli import common
from dataflows.settings import Settings, Written, leaves, read

HIDDEN: Final = "********"
_SECRET_OPTION: Final = re.compile(r"password|secret|key\.pem|oauthbearer\.config")
"""Of librdkafka's settings those that may hold one."""


def print_settings(config: Path | None, sets: list[str] | None) -> None:
    """Print the settings in force."""
    settings = common.settings(config, sets)
    print("\n".join(lines(settings, read(config, sets or []))))


def lines(settings: Settings, written: Written) -> Iterator[str]:
    """The settings as lines of TOML, each value with its source as a comment."""
    texts = dict(leaves(written.data))
    sections: dict[tuple[str, ...], dict[str, tuple[Any, str]]] = defaultdict(dict)
    for section, name, value in _values(settings.model_dump(by_alias=True)):
        path = ".".join((*section, name))
        if value is None and path not in texts:
            continue
        shown = _shown(path, value, texts.get(path, value))
        sections[section][name] = (shown, written.source(path))
    yield "# Settings in force; after each value where it comes from."
    for section, values in sections.items():
        yield f"\n[{'.'.join(_key(part) for part in section)}]"
        for name, (value, source) in values.items():
            yield f"{_key(name)} = {_toml(value)}  # {source}"


def _values(
    table: Mapping[str, Any], section: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """(section, name, value) of every setting, a section's own values before its tables."""
    for name, value in table.items():
        if not isinstance(value, Mapping):
            yield section, name, value
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _values(value, (*section, name))


def _shown(path: str, checked: Any, text: Any) -> Any:
    """A value as it was written, unless it is a secret."""
    secret = isinstance(checked, SecretStr) or (
        path.startswith("kafka.options.") and _SECRET_OPTION.search(path)
    )
    if not secret:
        return text
    value = checked.get_secret_value() if isinstance(checked, SecretStr) else checked
    return HIDDEN if value else ""


def _key(name: str) -> str:
    """A name as TOML wants it: in quotes where it has dots or worse."""
    return tomli_w.dumps({name: 0}).rpartition(" = ")[0]


def _toml(value: Any) -> str:
    """A value as TOML, in one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"": value}).partition(" = ")[2].rstrip("\n")
