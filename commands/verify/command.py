"""The command: a run, its report, its exit code."""

from rich.console import Console

from commands.verify.report import show
from commands.verify.run import run
from retail_stream.settings import Connections


def verify(connections: Connections, console: Console) -> int:
    """Print a line per check; returns 0 when nothing differs, else 1.

    Raises:
        Unavailable: a server did not answer for 30 s (exit code 2).
    """
    report = run(connections)
    show(report, console)
    return 0 if report.ok else 1
