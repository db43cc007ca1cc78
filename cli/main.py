"""The ``afterglow`` command: one file per command, loaded when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import common

app = typer.Typer(
    name="afterglow",
    help="Live customer profiles from event streams.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file; see afterglow.toml for all of them.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="One setting, such as rfm.basis=window."),
]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Take a field from another column."),
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="FROM=TO", help="Rename a type of event."),
]


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(help="End after so long; 0 runs until Ctrl-C.")] = 0,
    rate: Annotated[int, typer.Option(help="Events per second.")] = 500,
    users: Annotated[int, typer.Option(help="Customers of the shop.")] = 5_000,
    kill_every: Annotated[
        float, typer.Option(help="Kill the engine for real every so many seconds; 0 never.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the made-up shop.")] = 1,
    plain: Annotated[bool, typer.Option(help="Lines instead of a live view.")] = False,
    addresses: Annotated[
        Path | None,
        typer.Option(help="Write where broker and store are to this file, for `. FILE`."),
    ] = None,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """A made-up shop, the embedded broker and store, the engine, and a live view of it all."""
    from cli.demo import run_demo

    settings = common.settings(config, sets)
    shop = seconds, rate, users, kill_every, seed, plain
    sys.exit(run_demo(settings, config, sets or [], *shop, addresses))


@app.command()
def run(
    workers: Annotated[
        int, typer.Option(min=0, help="Supervise so many workers; 0 is this process alone.")
    ] = 0,
    addresses: Annotated[
        str, typer.Option(help="Of all workers over several hosts: host:port,host:port,…")
    ] = "",
    process: Annotated[int, typer.Option(help="Which of --addresses this worker is.")] = 0,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Run the engine over Kafka and Redis (KAFKA_BOOTSTRAP, REDIS_URL) until SIGTERM.

    With --workers it is started again whenever it fails. Workers speak to each other in plain TCP
    without authentication: keep --addresses inside a private network.
    """
    from cli.run import parse_place, run_cluster, run_engine

    place = parse_place(process, addresses)
    if workers and addresses:
        raise common.UserError("--workers is for this machine, --addresses for several: give one")
    if workers:
        sys.exit(run_cluster(common.settings(config, sets), workers))
    sys.exit(run_engine(common.settings(config, sets), place))


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines, perhaps gzip, or Parquet.")],
    maps: Maps = None,
    types: Types = None,
    topic: Annotated[str, typer.Option(help="Topic; kafka.events if empty.")] = "",
    rate: Annotated[float, typer.Option(help="Events per second; 0 as fast as it goes.")] = 0,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Publish a file of events to Kafka."""
    from cli.publish import publish_file

    sys.exit(
        publish_file(common.settings(config, sets), file, maps or [], types or [], topic, rate)
    )


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines, perhaps gzip, or Parquet.")],
    until: Annotated[
        str, typer.Option(help="Take values at this time (epoch ms or RFC 3339); the last event's.")
    ] = "",
    partitions: Annotated[int, typer.Option(min=1, help="Deal events to so many.")] = 1,
    export: Annotated[
        Path | None, typer.Option(help="Write all profiles there: JSON lines, or .parquet.")
    ] = None,
    changes: Annotated[
        Path | None, typer.Option(help="Write all changes there as JSON lines.")
    ] = None,
    dead_letters: Annotated[
        Path | None, typer.Option(help="Write dead letters there as JSON lines.")
    ] = None,
    maps: Maps = None,
    types: Types = None,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Replay a file through the engine, with event time as the clock."""
    from cli.replay import replay_file

    settings = common.settings(config, sets)
    sys.exit(
        replay_file(
            settings,
            file,
            until,
            partitions,
            export,
            changes,
            dead_letters,
            maps or [],
            types or [],
        )
    )


@app.command()
def profile(user: str, config: Config = None, sets: Sets = None) -> None:
    """Show one customer's profile as JSON."""
    from cli.lookup import show_profile

    sys.exit(show_profile(common.settings(config, sets), user))


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="A customer, or the word evaluate.")],
    item: Annotated[str, typer.Argument(help="An item of the list, or the file.")] = "",
    json: Annotated[bool, typer.Option("--json", help="The document as it is.")] = False,
    maps: Maps = None,
    types: Types = None,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Show a customer's list; with ITEM why it is in it; `evaluate FILE`: how well lists foretell.

    FILE is CSV or JSON lines, perhaps gzip, by time.
    """
    from cli.recommend import evaluate_file, show_candidates

    settings = common.settings(config, sets)
    if user == "evaluate" and item:
        sys.exit(evaluate_file(settings, Path(item), maps or [], types or []))
    sys.exit(show_candidates(settings, user, item, json))


@app.command()
def explain(user: str, segment: str, config: Config = None, sets: Sets = None) -> None:
    """Say why a customer is in a segment, or has an offer (offers.NAME), or why not."""
    from cli.lookup import show_explanation

    sys.exit(show_explanation(common.settings(config, sets), user, segment))


@app.command()
def changes(
    json: Annotated[bool, typer.Option("--json", help="The records as they are.")] = False,
    seconds: Annotated[float, typer.Option(help="End after so long; 0 runs until Ctrl-C.")] = 0,
    beginning: Annotated[bool, typer.Option(help="From the topic's first change on.")] = False,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Follow the segment changes."""
    from cli.changes import follow

    sys.exit(follow(common.settings(config, sets), json, seconds, beginning))


@app.command()
def export(
    out: Annotated[
        Path | None, typer.Option(help="A file, perhaps .parquet; standard output if absent.")
    ] = None,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Write all profiles as JSON lines, or as Parquet."""
    from cli.lookup import export_profiles

    sys.exit(export_profiles(common.settings(config, sets), out))


@app.command()
def verify(
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the users, chosen by a hash.")
    ] = 1.0,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Recompute profiles from the events topic, slowly, and say whose live profile differs."""
    from cli.verify import verify_profiles

    sys.exit(verify_profiles(common.settings(config, sets), share))


@app.command()
def experiments(
    json: Annotated[bool, typer.Option("--json", help="As JSON, all figures.")] = False,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Hold every arm of every experiment against control."""
    from cli.experiments import show_experiments

    sys.exit(show_experiments(common.settings(config, sets), json))


@app.command()
def serve(config: Config = None, sets: Sets = None) -> None:
    """Serve profiles, lists, segments, explanations and changes over HTTP until SIGTERM."""
    from cli.serve import run_server

    sys.exit(run_server(common.settings(config, sets)))


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Look for what is wrong around the engine: settings, store, broker, clocks, machine."""
    from cli.doctor import examine

    sys.exit(examine(config, sets, as_json=json))


@app.command("settings")
def show_settings(config: Config = None, sets: Sets = None) -> None:
    """Print the settings in force, secrets hidden."""
    from cli.settings import print_settings

    print_settings(config, sets)


catalog = typer.Typer(
    name="catalog",
    help="What the shop says of its items: titles, categories, prices, what is available.",
    no_args_is_help=True,
)
app.add_typer(catalog)


@catalog.command("publish")
def publish_items(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines, perhaps gzip.")],
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Publish items to the catalogue; each replaces all that was said of it."""
    from cli.catalog import publish_catalog

    sys.exit(publish_catalog(common.settings(config, sets), file))


@catalog.command("remove")
def remove_item(item: str, config: Config = None, sets: Sets = None) -> None:
    """Take an item out of the catalogue; it is not recommended any more."""
    from cli.catalog import remove_item as remove

    sys.exit(remove(common.settings(config, sets), item))


@catalog.command("show")
def show_item(item: str, config: Config = None, sets: Sets = None) -> None:
    """Show what the catalogue says of an item."""
    from cli.catalog import show_item as show

    sys.exit(show(common.settings(config, sets), item))


rules = typer.Typer(
    name="rules",
    help="Rules over what is recommended: leave out, push, put in a place.",
    no_args_is_help=True,
)
app.add_typer(rules)


@rules.command("set")
def set_rules(
    file: Annotated[Path, typer.Argument(help="TOML or JSON: a table for each rule, by name.")],
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Replace all rules by those of a file, while the engine runs."""
    from cli.rules import set_rules as write

    sys.exit(write(common.settings(config, sets), file))


@rules.command("clear")
def clear_rules(config: Config = None, sets: Sets = None) -> None:
    """Let the rules of the settings hold again."""
    from cli.rules import clear_rules as clear

    sys.exit(clear(common.settings(config, sets)))


@rules.command("list")
def list_rules(config: Config = None, sets: Sets = None) -> None:
    """Show all rules, and which of them hold now."""
    from cli.rules import list_rules as show

    sys.exit(show(common.settings(config, sets)))


segments = typer.Typer(
    name="segments",
    help="Definitions of segments: what holds, what would come of others, changed as it runs.",
    no_args_is_help=True,
)
app.add_typer(segments)

DefinitionFile = Annotated[
    Path, typer.Argument(help="TOML with [segments.NAME] and [families.NAME], all of them.")
]
Author = Annotated[str, typer.Option(help="Who changes it; the user of this machine if empty.")]
Note = Annotated[str, typer.Option(help="Why, for the history.")]


@segments.command("list")
def list_segments(config: Config = None, sets: Sets = None) -> None:
    """Show every segment in a line: version, members, definition."""
    from cli.segments import list_segments as show

    sys.exit(show(common.settings(config, sets)))


@segments.command("show")
def show_segment(name: str, config: Config = None, sets: Sets = None) -> None:
    """Show the definition of a segment or family that holds."""
    from cli.segments import show_segment as show

    sys.exit(show(common.settings(config, sets), name))


@segments.command()
def history(config: Config = None, sets: Sets = None) -> None:
    """Show who changed what when, the latest first."""
    from cli.segments import show_history

    sys.exit(show_history(common.settings(config, sets)))


@segments.command("diff")
def diff_segments(
    file: Annotated[
        Path | None, typer.Argument(help="Hold this file against what is in force.")
    ] = None,
    first: Annotated[int, typer.Option("--from", help="A revision.")] = 0,
    second: Annotated[int, typer.Option("--to", help="A later one; the latest.")] = 0,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Show what a file would change, or what a revision has changed."""
    from cli.segments import show_differences

    sys.exit(show_differences(common.settings(config, sets), file, first, second))


@segments.command("preview")
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


@segments.command("what-if")
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


@segments.command("measure")
def measure_segments(
    over: Annotated[str, typer.Option(help="A time such as 7d, which ends now.")] = "7d",
    json: Annotated[bool, typer.Option("--json", help="As JSON, all figures.")] = False,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Show what members bought, and what the rest did, since who is who was known."""
    from cli.segment_views import measure_segments as show

    sys.exit(show(common.settings(config, sets), over, json))


@segments.command("apply")
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


@segments.command("pause")
def pause_segment(
    name: str, author: Author = "", note: Note = "", config: Config = None, sets: Sets = None
) -> None:
    """Let everybody stay in, or out of, a segment or family until it is resumed."""
    from cli.segments import pause_segment as pause

    sys.exit(pause(common.settings(config, sets), name, author, note, resume=False))


@segments.command("resume")
def resume_segment(
    name: str, author: Author = "", note: Note = "", config: Config = None, sets: Sets = None
) -> None:
    """Let a paused segment or family go on; its guard lets pass what has come up meanwhile."""
    from cli.segments import pause_segment as resume

    sys.exit(resume(common.settings(config, sets), name, author, note, resume=True))


models = typer.Typer(
    name="models",
    help="What has been learned, how well it does, and what it would have said of a log.",
    no_args_is_help=True,
)
app.add_typer(models)


@models.command("list")
def list_models(config: Config = None, sets: Sets = None) -> None:
    """Show every model in a line: what it foretells, by whom, how well."""
    from cli.models import list_models as show

    sys.exit(show(common.settings(config, sets)))


@models.command()
def health(config: Config = None, sets: Sets = None) -> None:
    """Show every measure of every model, how far inputs have moved, and the latest alerts."""
    from cli.models import show_health

    sys.exit(show_health(common.settings(config, sets)))


@models.command()
def weights(name: str, config: Config = None, sets: Sets = None) -> None:
    """Show a champion's weights by input, the heaviest first."""
    from cli.models import show_weights

    sys.exit(show_weights(common.settings(config, sets), name))


@models.command("export")
def export_model(
    name: str,
    out: Annotated[Path | None, typer.Option(help="A file; standard output if absent.")] = None,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Write a champion's saved form as JSON."""
    from cli.models import export_model as write

    sys.exit(write(common.settings(config, sets), name, out))


@models.command()
def reset(name: str, config: Config = None, sets: Sets = None) -> None:
    """Delete a saved model while the engine is stopped; a new one learns from the stream."""
    from cli.models import reset_model

    sys.exit(reset_model(common.settings(config, sets), name))


@models.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines, perhaps gzip, by time.")],
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


def main() -> None:
    """The entry point: errors that a person can mend are one line, not a traceback."""
    common.guard(app)


if __name__ == "__main__":
    main()
