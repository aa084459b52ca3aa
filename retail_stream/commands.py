"""The commands about the pipeline. Servers come from the environment, else from the embedded stack that runs."""

from collections.abc import Callable

import typer

from retail_stream.dlq import commands as dlq


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    commands: tuple[Callable[[], None], ...] = (demo, up, init, verify, status)
    for command in commands:
        app.command()(command)
    app.add_typer(dlq.app, name="dlq")


def demo() -> None:
    """The whole pipeline for DEMO_SECONDS (60) of traffic, drained, verified, and asked."""
    from rich.console import Console

    from retail_stream import demo, logs

    logs.configure("demo")
    raise typer.Exit(demo.demo(Console(highlight=False)))


def up() -> None:
    """The same pipeline until Ctrl-C."""
    from rich.console import Console

    from retail_stream import demo, logs

    logs.configure("up")
    raise typer.Exit(demo.up(Console(highlight=False)))


def init() -> None:
    """Create topics, register schemas, apply migrations; idempotent."""
    from retail_stream import logs
    from retail_stream.connected import connected
    from retail_stream.initialise import InitSettings, initialise

    logs.configure("init")
    initialise(connected(InitSettings))


def verify() -> None:
    """Recompute everything from the raw topics and compare; exit code 1 on any difference."""
    from rich.console import Console

    from retail_stream import logs
    from retail_stream.connected import connected
    from retail_stream.settings import Connections
    from retail_stream.verify import command

    logs.configure("verify")
    raise typer.Exit(command.verify(connected(Connections), Console(highlight=False)))


def status() -> None:
    """Lag, rates, watermark and counts."""
    import time

    from rich.console import Console

    from retail_stream import logs, postgres
    from retail_stream import status as looks
    from retail_stream.connected import connected
    from retail_stream.settings import Connections
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    logs.configure("status")
    connections = connected(Connections)
    engine = postgres.engine(connections.database_url)
    before = wait_for(lambda: looks.look(engine, connections), COMMAND_PATIENCE_S)
    began = time.monotonic()
    time.sleep(1)
    now = wait_for(lambda: looks.look(engine, connections), COMMAND_PATIENCE_S)
    Console(highlight=False).print(looks.as_table(now, before, time.monotonic() - began))
