"""``afterglow catalog``: what the shop says of its items."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import common
from cli.options import Config, Sets

app = typer.Typer(
    name="catalog",
    help="What the shop says of its items: titles, categories, prices, what is available.",
    no_args_is_help=True,
)


@app.command("publish")
def publish_items(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines, perhaps gzip.")],
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Publish items to the catalogue; each replaces all that was said of it."""
    from cli.catalog import publish_catalog

    sys.exit(publish_catalog(common.settings(config, sets), file))


@app.command("remove")
def remove_item(item: str, config: Config = None, sets: Sets = None) -> None:
    """Take an item out of the catalogue; it is not recommended any more."""
    from cli.catalog import remove_item as remove

    sys.exit(remove(common.settings(config, sets), item))


@app.command("show")
def show_item(item: str, config: Config = None, sets: Sets = None) -> None:
    """Show what the catalogue says of an item."""
    from cli.catalog import show_item as show

    sys.exit(show(common.settings(config, sets), item))
