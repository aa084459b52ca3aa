"""What a run is doing, on stderr, once it has taken longer than two seconds."""

import threading
from types import TracebackType

from rich.console import Console
from rich.status import Status

_QUIET_S = 2.0


class Progress:
    """A context: ``say`` what is being done. Shows nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._status = Status("verify", console=Console(stderr=True))
        self._timer = threading.Timer(_QUIET_S, self._status.start)
        self._timer.daemon = True

    def __enter__(self) -> "Progress":
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()
        self._status.stop()

    def say(self, what: str) -> None:
        """Replace what was said before."""
        self._status.update(what)
