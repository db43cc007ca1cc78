"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file; see afterglow.toml for all of them.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="One setting, such as rfm.basis=window."),
]
Seconds = Annotated[
    float, typer.Option(min=0, help="End after so many seconds; 0 runs until Ctrl-C.")
]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Take a field from another column."),
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="FROM=TO", help="Rename a type of event."),
]
