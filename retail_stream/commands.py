"""The commands about the pipeline. Servers come from the environment, else from the embedded stack that runs."""

import os
from collections.abc import Callable
from typing import TypeVar

import typer

from retail_stream.settings import Connections, Settings

S = TypeVar("S", bound=Settings)

dlq = typer.Typer(no_args_is_help=True, help="What was rejected and why.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    commands: tuple[Callable[[], None], ...] = (demo, up, init, verify, status)
    for command in commands:
        app.command()(command)
    dlq.command("list")(dlq_list)
    app.add_typer(dlq, name="dlq")


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
    from retail_stream.initialise import InitSettings, initialise

    logs.configure("init")
    initialise(_load(InitSettings))


def verify() -> None:
    """Recompute everything from the raw topics and compare; exit code 1 on any difference."""
    from rich.console import Console

    from retail_stream import logs
    from retail_stream.verify import command

    logs.configure("verify")
    raise typer.Exit(command.verify(_load(Connections), Console(highlight=False)))


def status() -> None:
    """Lag, rates, watermark and counts."""
    import time

    from rich.console import Console

    from retail_stream import logs, postgres
    from retail_stream import status as looks
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    logs.configure("status")
    connections = _load(Connections)
    engine = postgres.engine(connections.database_url)
    before = wait_for(lambda: looks.look(engine, connections), COMMAND_PATIENCE_S)
    began = time.monotonic()
    time.sleep(1)
    now = wait_for(lambda: looks.look(engine, connections), COMMAND_PATIENCE_S)
    Console(highlight=False).print(looks.as_table(now, before, time.monotonic() - began))


def dlq_list() -> None:
    """Dead letters by entity and rule, with the times of the first and the last."""
    from rich.console import Console
    from rich.table import Table

    from retail_stream import logs
    from retail_stream.deadletter_counts import count_by_rule
    from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

    logs.configure("dlq")
    connections = _load(Connections)
    table = Table(show_edge=False)
    for column in ("entity", "rule", "count", "first", "last"):
        table.add_column(column, no_wrap=True)
    for c in wait_for(lambda: count_by_rule(connections), COMMAND_PATIENCE_S):
        table.add_row(c.entity, c.rule, f"{c.count:,}", f"{c.first:%m-%d %H:%M:%S}", f"{c.last:%m-%d %H:%M:%S}")
    Console(highlight=False).print(table)


def _load(settings: type[S]) -> S:
    from retail_stream.embedded.home import Home
    from retail_stream.embedded.settings import EmbeddedSettings
    from retail_stream.settings import load

    if not any(name.upper() in os.environ for name in Connections.model_fields):
        running = Home(load(EmbeddedSettings).home).running()
        if running is not None:
            os.environ.update(running.env)
    return load(settings)
