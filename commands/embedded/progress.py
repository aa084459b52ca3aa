"""Progress of downloads on standard error; standard output is for the export lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from commands.embedded.maven import ProgressCallback

_WORTH_A_LINE = 5_000_000


@contextmanager
def download_bars() -> Iterator[ProgressCallback]:
    """Show a bar for each file that is being downloaded; without a terminal, a line for each large file."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    started = False

    @contextmanager
    def one_file(name: str, size: int) -> Iterator[Callable[[int], None]]:
        nonlocal started
        if not started:  # not earlier: bars without a file leave an empty line
            started = True
            bars.start()
        if not console.is_terminal and size > _WORTH_A_LINE:
            console.print(f"downloading {name} ({size / 1e6:.1f} MB)", highlight=False)
        task = bars.add_task(name, total=size)
        try:
            yield lambda count: bars.advance(task, count)
        finally:
            bars.remove_task(task)

    try:
        yield one_file
    finally:
        if started:
            bars.stop()
