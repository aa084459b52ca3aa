"""The commands `retention` and `forget`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add both to a program."""
    app.command()(retention)
    app.command()(forget)


def retention(
    apply: Annotated[bool, typer.Option("--apply", help="Do it.")] = False,
) -> None:
    """Say what the variables RETENTION_… would delete or archive; with --apply, do it."""
    from rich.console import Console

    from commands.retention import command
    from commands.retention.settings import RetentionSettings
    from commands.settings import start

    command.retention(start("retention", RetentionSettings), Console(highlight=False), apply=apply)


def forget(
    what: Annotated[str, typer.Argument(help="customer, product or store.")],
    number: Annotated[int, typer.Argument(metavar="ID", help="Its id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the versions and changes of an id from the warehouse, and publish a delete of it.

    Its source must have deleted it before. docs/retention.md says what the topics still hold, and until when.
    """
    from commands.retention import forget as forgetting
    from commands.settings import start
    from retail_stream.errors import SettingsError
    from retail_stream.settings import Connections

    connections = start("forget", Connections)
    dimension = forgetting.entity(what)
    if not yes and not sys.stdin.isatty():
        raise SettingsError("forget deletes for good; without a terminal to ask in, it needs --yes.")
    if not yes:
        typer.confirm(f"Delete {what} {number} and its history?", abort=True)
    gone = forgetting.forget(connections, dimension, number)
    print(
        f"Deleted {gone.versions:,} versions and {gone.changes:,} changes of {what} {number}, and published a delete."
    )
    print(f"{dimension}.raw, .clean and .dlq keep its records until their retention ends; see docs/retention.md.")
