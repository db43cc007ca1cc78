"""``afterglow rules``: rules over what is recommended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import common
from cli.options import Config, Sets

app = typer.Typer(
    name="rules",
    help="Rules over what is recommended: leave out, push, put in a place.",
    no_args_is_help=True,
)


@app.command("set")
def set_rules(
    file: Annotated[Path, typer.Argument(help="TOML or JSON: a table for each rule, by name.")],
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Replace all rules by those of a file, while the engine runs."""
    from cli.rules import set_rules as write

    sys.exit(write(common.settings(config, sets), file))


@app.command("clear")
def clear_rules(config: Config = None, sets: Sets = None) -> None:
    """Let the rules of the settings hold again."""
    from cli.rules import clear_rules as clear

    sys.exit(clear(common.settings(config, sets)))


@app.command("list")
def list_rules(config: Config = None, sets: Sets = None) -> None:
    """Show all rules, and which of them hold now."""
    from cli.rules import list_rules as show

    sys.exit(show(common.settings(config, sets)))
