"""The settings: one typed file, the environment for addresses and secrets, ``--set`` for the rest.

``afterglow.toml`` beside the code holds every setting at its default with a comment. Another file
replaces what it names; ``--set path=value`` replaces single values. Whatever is wrong is found
here, before anything starts, and said with its path, what was needed and what came.

>>> load(sets=["rfm.basis=window", "session.gap=1h"]).session.gap
3600000
>>> load(sets=["rfm.bases=window"])
Traceback (most recent call last):
    ...
dataflows.settings.SettingsError: rfm.bases: there is no such setting; did you mean 'basis'?
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from dataflows.complaints import lines
from dataflows.sections import Settings

__all__ = ["DEFAULTS", "Settings", "SettingsError", "Written", "leaves", "load", "read"]

DEFAULTS: Final = Path(__file__).parent.parent / "afterglow.toml"


class SettingsError(Exception):
    """Settings are wrong; the message has one line for each that is."""


_ENVIRONMENT: Final = {
    "KAFKA_BOOTSTRAP": ("kafka", "bootstrap"),
    "KAFKA_USERNAME": ("kafka", "username"),
    "KAFKA_PASSWORD": ("kafka", "password"),
    "REDIS_URL": ("redis", "url"),
    "AFTERGLOW_TOKENS": ("serve", "tokens"),
    "AFTERGLOW_TOKENS_FILE": ("serve", "tokens_file"),
}
_EVIDENT: Final = frozenset({"default", "--set"})
"""Sources that need not be named: whoever typed a value sees it."""
_NAMED: Final = ("features", "segments", "families", "experiments")
"""Sections whose entries a file replaces whole, because they are named by the user."""


@dataclass(slots=True)
class Written:
    """What was written, wherever it was, before anybody has checked it.

    Attributes:
        data: the settings as nested tables; a later source has replaced an earlier one.
        places: (dotted path, source) in the order of writing; a path may be that of a table.
    """

    data: dict[str, Any]
    places: list[tuple[str, str]] = field(default_factory=list)

    def source(self, path: str) -> str:
        """Where the value at a dotted path comes from."""
        for place, source in reversed(self.places):
            if path == place or path.startswith(f"{place}."):
                return source
        return "default"

    def located(self, complaints: str) -> str:
        """Complaints about settings, each with the file or variable it came from behind its path.

        >>> file = Written({}, [("rfm.basis", "mine.toml")])
        >>> file.located("rfm.basis: must be decayed or window, but 'weekly' came")
        "rfm.basis (mine.toml): must be decayed or window, but 'weekly' came"
        """
        out = []
        for line in complaints.splitlines():
            path, colon, rest = line.partition(": ")
            source = self.source(path)
            if source == "default":  # of all of a table, of which some may have been written
                within = {name for place, name in self.places if place.startswith(f"{path}.")}
                source = ", ".join(sorted(within - _EVIDENT)) or source
            out.append(line if source in _EVIDENT else f"{path} ({source}){colon}{rest}")
        return "\n".join(out)


def load(
    path: Path | None = None,
    sets: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings in force.

    Args:
        path: a file that replaces defaults; else AFTERGLOW_CONFIG, else none.
        sets: ``path=value`` texts, later ones win.
        env: the environment.

    Raises:
        SettingsError: with a line for each wrong value.
    """
    written = read(path, sets, env)
    try:
        return Settings.model_validate(written.data)
    except ValidationError as error:
        raise SettingsError(written.located("\n".join(lines(error)))) from None


def read(
    path: Path | None = None,
    sets: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
) -> Written:
    """What ``load`` checks, with the source of every value; same arguments.

    Raises:
        SettingsError: a file or a ``--set`` that cannot be read.
    """
    written = Written(_read(DEFAULTS))
    chosen = path or (Path(env["AFTERGLOW_CONFIG"]) if env.get("AFTERGLOW_CONFIG") else None)
    if chosen is not None:
        over = _read(chosen)
        _refuse_secrets(chosen, over)
        _merge(written.data, over)
        written.places += [(place, str(chosen)) for place, _ in leaves(over)]
    for name, (section, key) in _ENVIRONMENT.items():
        if env.get(name) and isinstance(written.data[section], dict):
            written.data[section][key] = env[name]
            written.places.append((f"{section}.{key}", name))
    for text in sets:
        written.places.append((_set(written.data, text), "--set"))
    return written


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables by their dotted paths.

    >>> list(leaves({"rfm": {"basis": "window"}, "a": {"b.c": 1}}))
    [('rfm.basis', 'window'), ('a.b.c', 1)]
    """
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error


def _refuse_secrets(path: Path, over: Mapping[str, Any]) -> None:
    """Tokens open the API to whoever reads them, and settings files are read by many."""
    serve = over.get("serve")
    held = str(serve.get("tokens", "")) if isinstance(serve, dict) else ""
    if held.strip("*"):  # stars stand for them where `afterglow settings` printed the file
        raise SettingsError(
            f"{path}: serve.tokens: must not stand in a settings file, but does; set "
            "AFTERGLOW_TOKENS, or name a file of tokens in serve.tokens_file"
        )


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        held = base.get(name)
        if name in _NAMED and isinstance(value, dict):
            base[name] = {**(held or {}), **value}
        elif isinstance(held, dict) and isinstance(value, dict):
            _merge(held, value)
        else:
            base[name] = value


def _set(data: dict[str, Any], text: str) -> str:
    """Set one value; its dotted path."""
    name, mark, raw = text.partition("=")
    if not mark:
        raise SettingsError(f"--set {text}: must be path=value, such as rfm.basis=window")
    *path, last = _keys(name, text)
    here = data
    for part in path:
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise SettingsError(f"--set {text}: {part!r} is a value and has no settings in it")
    here[last] = _value(raw.strip())
    return ".".join((*path, last))


def _keys(name: str, text: str) -> list[str]:
    """The parts of a dotted path; as in TOML, a part may be in quotes."""
    try:
        table: Any = tomllib.loads(f"{name} = 0")
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"--set {text}: must be path=value, such as rfm.basis=window, but the path is {name!r}"
        ) from error
    keys = []
    while isinstance(table, dict):
        ((key, table),) = table.items()
        keys.append(key)
    return keys


def _value(raw: str) -> Any:
    """A TOML value; what is none is a text."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
