"""``afterglow rules``: what the shop's people want of lists of items, changed while it runs."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from cli.common import UserError, need_redis, wide_console
from dataflows.complaints import lines
from dataflows.engine import open_store
from dataflows.plans import item_rules
from dataflows.sections.items import RuleSettings
from dataflows.sections.values import Name
from dataflows.settings import Settings, SettingsError
from models.rules import Rule, RuleSet, decode_rules, encode_rules
from state.item_store import RULES
from state.times import FAR_MS, NEVER_MS

_RULES: TypeAdapter[dict[str, RuleSettings]] = TypeAdapter(dict[Name, RuleSettings])

_PLACE: Final = ("recommend", "rules")
"""Where rules stand in the settings."""


def set_rules(settings: Settings, file: Path) -> int:
    """Replace all rules by those of a file."""
    need_redis(settings)
    rules = _read(file)
    raw = encode_rules(RuleSet(time.time_ns() // 1_000_000, rules))
    open_store(settings).share(RULES, raw)
    print(f"{len(rules)} rules set; every worker follows within seconds")
    return 0


def clear_rules(settings: Settings) -> int:
    """Let the rules of the settings hold again."""
    need_redis(settings)
    cleared = open_store(settings).unshare(RULES)
    print("the rules of the settings hold again" if cleared else "no rules were set")
    return 0


def list_rules(settings: Settings) -> int:
    """Show all rules and which of them hold now."""
    need_redis(settings)
    raw = open_store(settings).shared(RULES)
    now_ms = time.time_ns() // 1_000_000
    if raw is None:
        title, rules = "rules of the settings", item_rules(settings.recommend.rules)
    else:
        held = decode_rules(raw)
        title, rules = f"rules set at {_utc(held.set_at)}", held.rules
    if not rules:
        print(f"{title}: none")
        return 0
    table = Table(title=title)
    for name in ("rule", "holds", "exclude", "boost", "pin", "from", "to"):
        table.add_column(name)
    for name, rule in sorted(rules.items()):
        table.add_row(name, "yes" if rule.holds_at(now_ms) else "no", *_cells(rule))
    wide_console().print(table)
    return 0


def _cells(rule: Rule) -> tuple[str, ...]:
    boost = "" if rule.boost is None else f"× {rule.boost.factor:g} where {rule.boost.when}"
    pin = "" if rule.pin is None else f"{', '.join(rule.pin.items)} from place {rule.pin.place}"
    begins = "" if rule.valid_from == NEVER_MS else _utc(rule.valid_from)
    ends = "" if rule.valid_to == FAR_MS else _utc(rule.valid_to)
    return rule.exclude, boost, pin, begins, ends


def _read(file: Path) -> dict[str, Rule]:
    """The rules in a file: TOML, or JSON; a table for each."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        data: Any = msgspec.json.decode(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UserError(f"{file}: is neither TOML nor, by its ending, JSON: {error}") from error
    data = _as_in_settings(data)
    if not data:
        raise UserError(
            f"{file}: must hold a table for each rule, such as [winter], but is empty. `afterglow "
            "rules clear` lets the rules of the settings hold again"
        )
    try:
        return item_rules(_RULES.validate_python(data), str(file))
    except ValidationError as error:
        said = lines(error, _PLACE, hidden=len(_PLACE))
        raise SettingsError("\n".join(f"{file}: {line}" for line in said)) from None


def _as_in_settings(data: Any) -> Any:
    """The tables ``[recommend.rules.NAME]`` of settings, where these are some."""
    for name in _PLACE:
        if not (isinstance(data, dict) and list(data) == [name] and isinstance(data[name], dict)):
            return data
        inside = data[name]
        if name == _PLACE[0] and list(inside) != [_PLACE[1]]:
            return data
        data = inside
    return data


def _utc(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ms / 1000))
