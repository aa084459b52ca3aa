"""How many requests may read a server at a time: others wait for a second, then get one sentence."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from retail_stream.errors import RetailStreamError

_WAIT_S = 1.0


class Busy(RetailStreamError):
    """Others ask at this moment."""


class Turns:
    """Turns of requests that read the same server."""

    def __init__(self, at_once: int, what: str) -> None:
        """``at_once``: requests that read at a time. ``what``: what they read, for the sentence."""
        self._free = threading.BoundedSemaphore(at_once)
        self._what = what

    @contextmanager
    def one(self) -> Iterator[None]:
        """A turn.

        Raises:
            Busy: others have every turn, and none ended within a second.
        """
        if not self._free.acquire(timeout=_WAIT_S):
            raise Busy(f"Others read {self._what} at this moment; try again in a few seconds.")
        try:
            yield
        finally:
            self._free.release()
