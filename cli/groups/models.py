"""``afterglow models``: what has been learned, and how well it does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import common
from cli.options import Config, Maps, Sets, Types

app = typer.Typer(
    name="models",
    help="What has been learned, how well it does, and what it would have said of a log.",
    no_args_is_help=True,
)


@app.command("list")
def list_models(config: Config = None, sets: Sets = None) -> None:
    """Show every model in a line: what it foretells, by whom, how well."""
    from cli.models import list_models as show

    sys.exit(show(common.settings(config, sets)))


@app.command()
def health(config: Config = None, sets: Sets = None) -> None:
    """Show every measure of every model, how far inputs have moved, and the latest alerts."""
    from cli.models import show_health

    sys.exit(show_health(common.settings(config, sets)))


@app.command()
def weights(name: str, config: Config = None, sets: Sets = None) -> None:
    """Show a champion's weights by input, the heaviest first."""
    from cli.models import show_weights

    sys.exit(show_weights(common.settings(config, sets), name))


@app.command("export")
def export_model(
    name: str,
    out: Annotated[Path | None, typer.Option(help="A file; standard output if absent.")] = None,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Write a champion's saved form as JSON."""
    from cli.models import export_model as write

    sys.exit(write(common.settings(config, sets), name, out))


@app.command()
def reset(name: str, config: Config = None, sets: Sets = None) -> None:
    """Delete a saved model; a new one learns from the stream, also in an engine that runs."""
    from cli.models import reset_model

    sys.exit(reset_model(common.settings(config, sets), name))


@app.command()
def evaluate(
    file: Annotated[
        Path, typer.Argument(help="CSV or JSON lines, perhaps gzip, or Parquet, by time.")
    ],
    step: Annotated[
        str, typer.Option(help="Outcomes are learned at most so long after they are known.")
    ] = "1d",
    after: Annotated[
        str, typer.Option(help="Leave out moments so soon after the first one, such as 150d.")
    ] = "",
    maps: Maps = None,
    types: Types = None,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Predict, then learn: what the models would have said of a log, and what came of it."""
    from cli.models import evaluate_file

    settings = common.settings(config, sets)
    sys.exit(evaluate_file(settings, file, step, after, maps or [], types or []))
