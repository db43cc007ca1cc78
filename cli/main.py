"""The ``afterglow`` command: one file per command, loaded when it is called."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import common
from cli.groups import catalog, models, rules, segments
from cli.options import Config, Maps, Seconds, Sets, Types

app = typer.Typer(
    name="afterglow",
    help="Live customer profiles from event streams.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    seconds: Seconds = 0,
    rate: Annotated[int, typer.Option(min=1, help="Events per second.")] = 500,
    users: Annotated[int, typer.Option(min=1, help="Customers of the shop.")] = 5_000,
    kill_every: Annotated[
        float, typer.Option(min=0, help="Kill the engine for real every so many seconds; 0 never.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the made-up shop.")] = 1,
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
    rate: Annotated[
        float, typer.Option(min=0, help="Events per second; 0 as fast as it goes.")
    ] = 0,
    config: Config = None,
    sets: Sets = None,
) -> None:
    """Publish a file of events to Kafka."""
    from cli.interrupts import Interrupts

    with Interrupts() as interrupts:
        from cli.publish import publish_file

        settings = common.settings(config, sets)
        sys.exit(publish_file(settings, file, maps or [], types or [], topic, rate, interrupts))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines, perhaps gzip, or Parquet.")],
    until: Annotated[
        str, typer.Option(help="Take values at this time (epoch ms or RFC 3339); the last event's.")
    ] = "",
    partitions: Annotated[int, typer.Option(min=1, max=1024, help="Deal events to so many.")] = 1,
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
    from cli.interrupts import Interrupts

    with Interrupts() as interrupts:
        from cli.replay import Outputs, replay_file

        settings = common.settings(config, sets)
        outputs = Outputs(export, changes, dead_letters)
        sys.exit(
            replay_file(
                settings, file, until, partitions, outputs, maps or [], types or [], interrupts
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

    FILE is CSV or JSON lines, perhaps gzip, or Parquet, by time.
    """
    from cli.recommend import check_use, evaluate_file, show_candidates

    check_use(user, item, json, bool(maps or types))
    settings = common.settings(config, sets)
    if user == "evaluate":
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
    seconds: Seconds = 0,
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
        Path | None,
        typer.Option(help="A .jsonl, .json, .ndjson or .parquet file; else standard output."),
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
    """Recompute profiles from the events topic, slowly, and say whose live profile differs.

    Compared are first_seen, last_seen, last_order, lifetime, window, decayed, session, cart,
    engagement, intent and other decaying features without a condition, and whether segments agree
    with the segments' sets. RFM scores, model scores, offers and other features are not compared.
    """
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


for group in (catalog, rules, segments, models):
    app.add_typer(group.app)


def main() -> None:
    """The entry point: errors that a person can mend are one line, not a traceback."""
    # Before anything of Rust is loaded: an error in a dataflow would print a hundred lines of it.
    os.putenv("RUST_BACKTRACE", "0")
    common.guard(app)


if __name__ == "__main__":
    main()
