"""The settings: one typed file, the environment for addresses and secrets, ``--set`` for the rest.

``afterglow.toml`` beside the code holds every setting at its default with a comment. Another file
replaces what it names; ``--set path=value`` replaces single values. Whatever is wrong is found
here, before anything starts, and said with its path, what was needed and what came.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from dataflows.durations import duration_ms

DEFAULTS: Final = Path(__file__).parent.parent / "afterglow.toml"


class SettingsError(Exception):
    """Settings are wrong; the message has one line for each that is."""


def _to_ms(value: Any) -> Any:
    return duration_ms(value) if isinstance(value, str) else value


def _to_optional_ms(value: Any) -> Any:
    return None if value == "" else _to_ms(value)


Millis = Annotated[int, BeforeValidator(_to_ms), Field(ge=0)]
OptionalMillis = Annotated[int | None, BeforeValidator(_to_optional_ms)]
Four = Annotated[tuple[float, ...], Field(min_length=4, max_length=4)]


class Section(BaseModel):
    """A part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Events(Section):
    """What an event may be."""

    types: tuple[str, ...]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    minor_digits: Annotated[int, Field(ge=0, le=4)]
    max_ahead: Millis
    max_age: OptionalMillis
    max_bytes: Annotated[int, Field(ge=64, le=1_000_000)]


class Kafka(Section):
    """The log and its topics; ``bootstrap`` comes from KAFKA_BOOTSTRAP."""

    bootstrap: str = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    events: str
    dead: str
    changes: str
    group: str
    fetch_max: Annotated[int, Field(ge=1, le=100_000)]
    options: dict[str, str | int | float | bool]


class Redis(Section):
    """The store; ``url`` comes from REDIS_URL."""

    url: SecretStr = SecretStr("")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,32}$")]
    shards: Annotated[int, Field(ge=1, le=1024)]
    timeout: Millis
    give_up: Millis


class LaneSettings(Section):
    """Commits and time."""

    commit_events: Annotated[int, Field(ge=1)]
    commit_delay: Millis
    heartbeat: Millis
    lateness: Millis
    wall_delay: Millis
    timer_step: Millis
    timer_budget: Annotated[int, Field(ge=100)]
    poll: Annotated[int, BeforeValidator(_to_ms), Field(ge=1000)]


class DedupSettings(Section):
    """How long event ids are remembered."""

    window: Millis
    cap: Annotated[int, Field(ge=1000)]


class FixedCuts(Section):
    """Cuts to use instead of the population's quintiles."""

    recency_days: Four
    frequency: Four
    monetary: Four


class Rfm(Section):
    """Recency, frequency, monetary."""

    basis: Literal["decayed", "window", "lifetime"]
    half_life: Annotated[int, BeforeValidator(_to_ms), Field(ge=1000)]
    window: Annotated[int, BeforeValidator(_to_ms), Field(ge=1)]
    ties: Literal["rank", "same"]
    cuts_every: Millis
    cuts: FixedCuts | None = None


class OrderSettings(Section):
    """How long orders are found."""

    keep: OptionalMillis


class SessionSettings(Section):
    """Sessions and returns."""

    gap: Millis
    return_gap: Millis


class CartSettings(Section):
    """Carts."""

    ttl: Millis
    max_lines: Annotated[int, Field(ge=1, le=1000)]


class DecayedFeature(Section):
    """A declared decayed sum."""

    kind: Literal["decayed"]
    half_life: Annotated[int, BeforeValidator(_to_ms), Field(ge=1000)]
    weights: dict[str, Annotated[float, Field(ge=0)]]
    where: str = ""


class CountFeature(Section):
    """A declared windowed count."""

    kind: Literal["count"]
    window: Annotated[int, BeforeValidator(_to_ms), Field(ge=1000)]
    panes: Annotated[int, Field(ge=1, le=64)]
    types: tuple[str, ...]
    where: str = ""


FeatureSettings = Annotated[DecayedFeature | CountFeature, Field(discriminator="kind")]


class Segment(Section):
    """A declared segment."""

    enter: str
    exit: str | None = None
    min_dwell: Millis = 0
    cooldown: Millis = 0
    version: Annotated[int, Field(ge=1)] = 1


class FamilySettings(Section):
    """A declared family of labels, in order."""

    labels: dict[str, str]
    version: Annotated[int, Field(ge=1)] = 1


class PurchaseSettings(Section):
    """The purchase model."""

    enabled: bool
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    horizon: Annotated[int, BeforeValidator(_to_ms), Field(ge=1000)]
    every: Annotated[int, BeforeValidator(_to_ms), Field(ge=1000)]
    rate: Annotated[float, Field(ge=0, le=1)]
    window: Annotated[int, Field(ge=1)]
    features: tuple[str, ...]


class Models(Section):
    """Models in the flow."""

    purchase: PurchaseSettings


class MetricsSettings(Section):
    """Where Prometheus finds the metrics."""

    address: Annotated[str, Field(pattern=r"^$|^.*:\d{1,5}$")]


class Embedded(Section):
    """The embedded broker."""

    partitions: Annotated[int, Field(ge=1, le=64)]


class Settings(Section):
    """All settings."""

    events: Events
    kafka: Kafka
    redis: Redis
    lane: LaneSettings
    dedup: DedupSettings
    rfm: Rfm
    orders: OrderSettings
    session: SessionSettings
    cart: CartSettings
    features: dict[str, FeatureSettings]
    segments: dict[str, Segment]
    families: dict[str, FamilySettings]
    models: Models
    metrics: MetricsSettings
    embedded: Embedded


_ENVIRONMENT: Final = {
    "KAFKA_BOOTSTRAP": ("kafka", "bootstrap"),
    "KAFKA_USERNAME": ("kafka", "username"),
    "KAFKA_PASSWORD": ("kafka", "password"),
    "REDIS_URL": ("redis", "url"),
}
_NAMED: Final = ("features", "segments", "families")
"""Sections whose entries a file replaces whole, because they are named by the user."""


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
    data = _read(DEFAULTS)
    chosen = path or (Path(env["AFTERGLOW_CONFIG"]) if env.get("AFTERGLOW_CONFIG") else None)
    if chosen is not None:
        _merge(data, _read(chosen))
    for name, (section, key) in _ENVIRONMENT.items():
        if env.get(name):
            data[section][key] = env[name]
    for text in sets:
        _set(data, text)
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(error))) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        held = base.get(name)
        if name in _NAMED and isinstance(value, dict):
            base[name] = {**(held or {}), **value}
        elif isinstance(held, dict) and isinstance(value, dict):
            _merge(held, value)
        else:
            base[name] = value


def _set(data: dict[str, Any], text: str) -> None:
    name, mark, raw = text.partition("=")
    *path, last = name.strip().split(".")
    if not mark or not last:
        raise SettingsError(f"--set {text}: must be path=value, such as rfm.basis=window")
    here = data
    for part in path:
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise SettingsError(f"--set {text}: {part!r} is a value and has no settings in it")
    here[last] = _value(raw.strip())


def _value(raw: str) -> Any:
    """A TOML value; what is none is a text."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def _lines(error: ValidationError) -> Iterator[str]:
    """One readable line per wrong value."""
    for problem in error.errors(include_url=False):
        place = [str(part) for part in problem["loc"] if part not in ("decayed", "count")]
        path, came = ".".join(place), problem.get("input")
        needed = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(place[-1], _siblings(place), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield f"{path}: there is no such setting{hint}"
        elif problem["type"] == "missing":
            yield f"{path}: is needed, but is not there"
        else:
            yield f"{path}: {needed[0].lower()}{needed[1:]}, but {came!r} came"


def _siblings(place: Sequence[str]) -> list[str]:
    """The names of settings beside a place that is none: those of the defaults."""
    here: Any = _read(DEFAULTS)
    for part in place[:-1]:
        here = here.get(part, {}) if isinstance(here, dict) else {}
    return list(here) if isinstance(here, dict) else []
