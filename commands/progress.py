"""Progress of work that takes longer than two seconds: a bar in a terminal, elsewhere a line every few seconds.

with Shown("verify") as progress:
    progress.say("reading the topics")
    progress.count(120_000, 400_000)
"""

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

_QUIET_S = 2.0
_LINE_EVERY_S = 5.0


class Shown:
    """A context that shows progress; any thread may call it. It shows nothing for the first ``quiet_s`` seconds."""

    def __init__(
        self,
        what: str,
        console: Console | None = None,
        *,
        quiet_s: float = _QUIET_S,
        line_every_s: float = _LINE_EVERY_S,
    ) -> None:
        """``what``: the name of the work. ``console``: standard error by default; standard output is for results."""
        self._what = what
        self._console = console or Console(stderr=True)
        self._quiet_s, self._line_every_s = quiet_s, line_every_s
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(show_speed=False),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=self._console, transient=True)
        self._task = self._bars.add_task(what, total=None)
        self._step = ""
        self._done: int | None = None
        self._total = 0
        self._over = threading.Event()
        self._showing = threading.Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> "Shown":
        self._showing.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._showing.join()

    def say(self, step: str) -> None:
        """Set the current step, of unknown size."""
        self._step, self._done = step, None
        self._bars.update(self._task, description=self._line(), total=None)

    def count(self, done: int, total: int) -> None:
        """Set how much of the current step is done."""
        self._done, self._total = done, max(done, total)
        self._bars.update(self._task, description=self._line(), completed=done, total=self._total)

    def _line(self) -> str:
        what = f"{self._what}: {self._step}" if self._step else self._what
        return what if self._done is None else f"{what}, {self._done:,} of {self._total:,}"

    def _show(self) -> None:
        if self._over.wait(self._quiet_s):
            return
        if self._console.is_terminal:
            with self._bars:
                self._over.wait()
            return
        printed = ""
        while not self._over.is_set():
            if (line := self._line()) != printed:
                printed = line
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._over.wait(self._line_every_s)
