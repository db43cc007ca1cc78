"""``afterglow segments``: the life cycle of definitions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import common
from cli.options import Config, Sets

app = typer.Typer(
    name="segments",
    help="Definitions of segments: what holds, what would come of others, changed as it runs.",
    no_args_is_help=True,
)

DefinitionFile = Annotated[
    Path,
    # The backslashes: in help, a name in brackets would be taken for a style.
    typer.Argument(help=r"TOML with \[segments.NAME] and \[families.NAME], all of them."),
]
Author = Annotated[str, typer.Option(help="Who changes it; the user of this machine if empty.")]
Note = Annotated[str, typer.Option(help="Why, for the history.")]


@app.command("list")
def list_segments(
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Show every segment in a line: version, members, definition."""
    from cli.segments import list_segments as show

    sys.exit(show(common.settings(config, sets), json))


@app.command("show")
def show_segment(name: str, config: Config = None, sets: Sets = None) -> None:
    """Show the definition of a segment or family that holds."""
    from cli.segments import show_segment as show

    sys.exit(show(common.settings(config, sets), name))


@app.command("export")
def export_segments(
    file: Annotated[
        Path | None, typer.Argument(help="Where to; standard output if absent.")
    ] = None,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Write all definitions in force as a file to edit, preview and apply."""
    from cli.segment_file import export_definitions

    sys.exit(export_definitions(common.settings(config, sets), file))


@app.command()
def history(config: Config = None, sets: Sets = None) -> None:
    """Show who changed what when, the latest first."""
    from cli.segments import show_history

    sys.exit(show_history(common.settings(config, sets)))


@app.command("diff")
def diff_segments(
    file: Annotated[
        Path | None, typer.Argument(help="Hold this file against what is in force.")
    ] = None,
    first: Annotated[int, typer.Option("--from", min=0, help="A revision; the one before.")] = 0,
    second: Annotated[int, typer.Option("--to", min=0, help="A later one; the latest.")] = 0,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Show what a file would change, or what a revision has changed."""
    from cli.segments import show_differences

    sys.exit(show_differences(common.settings(config, sets), file, first, second))


@app.command("preview")
def preview_segments(
    file: DefinitionFile,
    sample: Annotated[int, typer.Option(min=0, help="Name so many who enter or leave.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="As JSON, all segments.")] = False,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Show who would enter and leave which segment now; nothing is changed."""
    from cli.segment_views import preview_file

    sys.exit(preview_file(common.settings(config, sets), file, sample, json))


@app.command("what-if")
def what_if_segments(
    file: DefinitionFile,
    hours: Annotated[int, typer.Option(min=1, max=24 * 90, help="How many.")] = 24,
    json: Annotated[bool, typer.Option("--json", help="As JSON, hour by hour.")] = False,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Show who would enter and leave in the hours to come, in force and edited, in silence."""
    from cli.segment_views import what_if_file

    sys.exit(what_if_file(common.settings(config, sets), file, hours, json))


@app.command("measure")
def measure_segments(
    over: Annotated[str, typer.Option(help="A time such as 7d, which ends now.")] = "7d",
    json: Annotated[bool, typer.Option("--json", help="As JSON, all figures.")] = False,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Show what members bought, and what the rest did, since who is who was known."""
    from cli.segment_views import measure_segments as show

    sys.exit(show(common.settings(config, sets), over, json))


@app.command("apply")
def apply_segments(
    file: DefinitionFile,
    author: Author = "",
    note: Note = "",
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Put the definitions of a file in force while the engine runs."""
    from cli.segments import apply_file

    sys.exit(apply_file(common.settings(config, sets), file, author, note))


@app.command("pause")
def pause_segment(
    name: str, author: Author = "", note: Note = "", config: Config = None, sets: Sets = None
) -> None:
    """Let everybody stay in, or out of, a segment or family until it is resumed."""
    from cli.segments import pause_segment as pause

    sys.exit(pause(common.settings(config, sets), name, author, note, resume=False))


@app.command("resume")
def resume_segment(
    name: str, author: Author = "", note: Note = "", config: Config = None, sets: Sets = None
) -> None:
    """Let a paused segment or family go on; its guard lets pass what has come up meanwhile."""
    from cli.segments import pause_segment as resume

    sys.exit(resume(common.settings(config, sets), name, author, note, resume=True))
