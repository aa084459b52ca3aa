"""`verify` as a command, with its output in memory."""

import io

from rich.console import Console

from commands.verify.run import verify
from retail_stream.settings import Connections


def run(connections: Connections, since: str | None = None) -> tuple[int, str]:
    """Exit code and output."""
    console = Console(file=io.StringIO(), width=500)
    code = verify(connections, console, since)
    return code, console.file.getvalue()  # type: ignore[attr-defined]
