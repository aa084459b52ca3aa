"""`retail-stream infra`, and Kafka's own tools by the names that they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

_CONSOLE_TOOLS = (
    ("kafka-topics", "TOPICS"),
    ("kafka-console-consumer", "CONSOLE_CONSUMER"),
    ("kafka-consumer-groups", "CONSUMER_GROUPS"),
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(infra)
    for name, member in _CONSOLE_TOOLS:
        app.command(
            name,
            # Everything after the name of a tool is the tool's, --help too.
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
            help=f"Kafka's own {name}; the broker is KAFKA_BOOTSTRAP_SERVERS, or the running embedded one.",
        )(_console_tool(member))


def infra(
    detach: Annotated[bool, typer.Option("--detach", help="Return when all three answer; they keep running.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the running stack.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Stop the running stack and delete its state.")] = False,
) -> None:
    """Run Kafka, a schema registry and Postgres on this machine until Ctrl-C.

    A default port that is taken is replaced by a free one; RETAIL_STREAM_KAFKA_PORT and its like choose others.

    Standard output holds only export lines, of the three variables that the other commands and the services read:
    eval "$(retail-stream infra --detach)"
    """
    from commands.embedded import infra as stack
    from commands.embedded.settings import EmbeddedSettings
    from retail_stream.settings import load

    if detach + stop + reset > 1:
        raise typer.BadParameter("give at most one of --detach, --stop and --reset.")
    action = stack.reset if reset else stack.stop if stop else stack.detach if detach else stack.run
    action(load(EmbeddedSettings))


def _console_tool(member: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        from commands.embedded.console_tools import Tool, become
        from commands.embedded.settings import EmbeddedSettings
        from retail_stream.settings import load

        become(Tool[member], context.args, load(EmbeddedSettings))

    return command
