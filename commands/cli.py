"""The program `retail-stream`: every command, by name.

A command imports what it needs when it runs, so `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from commands.dlq import commands as dlq
from commands.embedded import commands as embedded
from commands.retention import commands as retention
from commands.rules import commands as rules
from retail_stream.errors import RetailStreamError


class OneSentence(TyperGroup):
    """Ends the program on an error of ours with its sentence and exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RetailStreamError as error:
            sys.stderr.write(f"retail-stream: {error}\n")
            sys.exit(error.exit_code)


app = typer.Typer(
    cls=OneSentence,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An apparel retailer's event streams, cleaned, versioned and windowed into a warehouse that can be trusted.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"retail-stream {version('retail-stream')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """`retail-stream COMMAND --help` describes a command."""


@app.command()
def demo() -> None:
    """Run the whole pipeline for DEMO_SECONDS (60) of traffic, drain it, verify it and query the warehouse."""
    from rich.console import Console

    from commands.demo.run import demo
    from retail_stream.service import logs

    logs.configure("demo")
    raise typer.Exit(demo(Console(highlight=False)))


@app.command()
def up() -> None:
    """Run the whole pipeline until Ctrl-C."""
    from rich.console import Console

    from commands.demo.run import up
    from retail_stream.service import logs

    logs.configure("up")
    raise typer.Exit(up(Console(highlight=False)))


@app.command()
def doctor() -> None:
    """Say what this machine lacks, and which raw subjects of the registry have a loose compatibility mode."""
    from commands.doctor import main

    raise typer.Exit(main())


@app.command()
def init() -> None:
    """Create topics, register schemas, apply migrations; idempotent."""
    from commands.init import InitSettings, initialise
    from commands.settings import start

    initialise(start("init", InitSettings))


@app.command()
def verify(
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only what was published since: ISO 8601 (UTC if no zone), or how long ago, such as 90s, 15m, 2h, 1d.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Recompute everything from the raw topics and compare; exit code 1 on any difference, 2 if it could not look.

    With --since: clean records, dead letters and facts since then, and the versions and windows that begin since.
    """
    from rich.console import Console

    from commands.settings import start
    from commands.verify.run import verify
    from retail_stream.settings import Connections

    raise typer.Exit(verify(start("verify", Connections), Console(highlight=False), since, as_json))


@app.command()
def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    from_raw: Annotated[
        bool,
        typer.Option("--from-raw", help="Also empty the clean and dead letter topics; the cleaner must be stopped."),
    ] = False,
) -> None:
    """Empty the warehouse and keep the topics; the services fill it again.

    The way to other windows, another lateness or a repaired table. Variables such as SALES_WINDOWS say what the
    aggregator will be started with; one that runs with other settings has to be stopped first. With --from-raw also the
    way on after a topic was deleted and made again.
    """
    from rich.console import Console

    from commands import derived_topics, rebuild
    from commands.settings import start
    from retail_stream.errors import SettingsError
    from services.aggregator import declared
    from services.aggregator.settings import AggregatorSettings

    settings = start("rebuild", AggregatorSettings)
    if not yes and not sys.stdin.isatty():
        raise SettingsError("rebuild empties the warehouse; without a terminal to ask in, it needs --yes.")
    given = {declared.NAME, *map(str.upper, settings.model_fields_set)}
    wanted = {n: v for n, v in settings.shaping.items() if n in given}
    rebuild.show(rebuild.plan(settings, wanted, from_raw=from_raw), Console(highlight=False))
    if not yes:
        typer.confirm("Empty the warehouse?", abort=True)
    if from_raw:
        derived_topics.empty(settings)
    rebuild.empty(settings)
    print("The warehouse is empty. The services fill it again while they run; see `retail-stream status`.")


@app.command()
def score(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Compare the planted faults with what was handled; exit code 1 if one was missed."""
    from rich.console import Console

    from commands.score import command
    from commands.settings import start
    from retail_stream.settings import Connections

    raise typer.Exit(command.score(start("score", Connections), Console(highlight=False), as_json))


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print once, also in a terminal.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, max=3600, help="Seconds between two readings.")] = 1.0,
) -> None:
    """Show lag, rates, watermark and counts: in a terminal until Ctrl-C, elsewhere once."""
    from rich.console import Console

    from commands.settings import start
    from commands.status import command
    from retail_stream.settings import Connections

    redrawn = sys.stdout.isatty() and not as_json and not once
    command.status(start("status", Connections), Console(highlight=False), every, redrawn=redrawn, as_json=as_json)


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="Any topic, for example sales.clean.")],
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start with the oldest record.")] = False,
    max_messages: Annotated[int | None, typer.Option(min=1, help="Stop after this many records.")] = None,
) -> None:
    """Print the records of a topic as they come, decoded, one JSON object per line, until Ctrl-C."""
    from commands import tail
    from commands.settings import start
    from retail_stream.settings import Connections

    connections = start("tail", Connections)
    schemas = tail.registered(connections)
    try:
        for line in tail.tail(connections, topic, schemas, from_beginning=from_beginning, wanted=max_messages):
            print(line, flush=True)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # `| head` has enough; Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app.add_typer(dlq.app, name="dlq")
app.add_typer(rules.app, name="rules")


@app.command()
def dashboard() -> None:
    """Serve the web page about the pipeline at http://127.0.0.1:8080 (DASHBOARD_PORT) until Ctrl-C; read-only."""
    from commands.dashboard.__main__ import main
    from commands.settings import use_running_stack

    use_running_stack()
    raise typer.Exit(main())


embedded.add_to(app)
retention.add_to(app)


if __name__ == "__main__":
    app()
