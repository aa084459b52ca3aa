"""The program `retail-stream`: each group of commands lives in a module of its own and registers itself here.

Modules of commands import what they need inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from commands import pipeline as pipeline_commands
from commands.embedded import commands as embedded_commands
from retail_stream.errors import RetailStreamError


class OneSentence(TyperGroup):
    """An error of ours ends the program with its sentence and its exit code, never with a traceback."""

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
pipeline_commands.register(app)
embedded_commands.register(app)


@app.callback()
def program() -> None:
    """Each command says with --help what it does."""


if __name__ == "__main__":
    app()
