"""The commands about the pipeline. Servers come from the environment, else from the embedded stack that runs."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from commands.dlq import commands as dlq


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    commands: tuple[Callable[..., None], ...] = (demo, up, init, verify, score, status, tail)
    for command in commands:
        app.command()(command)
    app.add_typer(dlq.app, name="dlq")


def demo() -> None:
    """The whole pipeline for DEMO_SECONDS (60) of traffic, drained, verified, and asked."""
    from rich.console import Console

    from commands.demo import run as demo
    from retail_stream.service import logs

    logs.configure("demo")
    raise typer.Exit(demo.demo(Console(highlight=False)))


def up() -> None:
    """The same pipeline until Ctrl-C."""
    from rich.console import Console

    from commands.demo import run as demo
    from retail_stream.service import logs

    logs.configure("up")
    raise typer.Exit(demo.up(Console(highlight=False)))


def init() -> None:
    """Create topics, register schemas, apply migrations; idempotent."""
    from commands.connected import connected
    from commands.init import InitSettings, initialise
    from retail_stream.service import logs

    logs.configure("init")
    initialise(connected(InitSettings))


def verify() -> None:
    """Recompute everything from the raw topics and compare; exit code 1 on any difference."""
    from rich.console import Console

    from commands.connected import connected
    from commands.verify import run
    from retail_stream.service import logs
    from retail_stream.settings import Connections

    logs.configure("verify")
    raise typer.Exit(run.verify(connected(Connections), Console(highlight=False)))


def score(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """What became of the faults that the generator planted; exit code 1 if one was missed."""
    from rich.console import Console

    from commands.connected import connected
    from commands.score import command
    from retail_stream.service import logs
    from retail_stream.settings import Connections

    logs.configure("score")
    raise typer.Exit(command.score(connected(Connections), Console(highlight=False), as_json))


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Once, as one JSON object on one line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Once, also in a terminal.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, max=3600, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Lag, rates, watermark and counts: in a terminal refreshed in place until Ctrl-C, elsewhere once."""
    import json
    import time

    from rich.console import Console

    from commands.connected import connected
    from commands.status import live as watching
    from commands.status import status as looks
    from retail_stream.service import logs
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
    from retail_stream.warehouse import postgres

    logs.configure("status")
    connections = connected(Connections)
    engine = postgres.engine(connections.database_url)
    console = Console(highlight=False)
    before = wait_for(lambda: looks.look(engine, connections), COMMAND_PATIENCE_S)
    if sys.stdout.isatty() and not as_json and not once:
        watching.watch(lambda: looks.look(engine, connections), before, console, every)
        return
    time.sleep(every)
    now = wait_for(lambda: looks.look(engine, connections), COMMAND_PATIENCE_S)
    if as_json:
        print(json.dumps(looks.as_json(now, before)))
    else:
        console.print(looks.as_table(now, before))


def tail(
    topic: Annotated[str, typer.Argument(help="Any topic, for example sales.clean.")],
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Also what is there already.")] = False,
    max_messages: Annotated[int | None, typer.Option(min=1, help="Stop after that many.")] = None,
) -> None:
    """Records of a topic as they come, decoded, one JSON object a line; until Ctrl-C."""
    from commands import tail as tails
    from commands.connected import connected
    from retail_stream.service import logs
    from retail_stream.settings import Connections

    logs.configure("tail")
    connections = connected(Connections)
    schemas = tails.registered(connections)
    try:
        for line in tails.tail(connections, topic, schemas, from_beginning=from_beginning, wanted=max_messages):
            print(line, flush=True)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # `| head` has enough; Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
