import threading
from collections.abc import Callable
from typing import TypeVar

from retail_stream.waiting import wait_for

T = TypeVar("T")


class Stopped(Exception):
    """SIGTERM came while a server was being waited for."""


def wait(stop: threading.Event, action: Callable[[], T]) -> T:
    """Wait for a server.

    Raises:
        Stopped: the program is to stop.
    """

    def unless_stopped() -> T:
        if stop.is_set():
            raise Stopped
        return action()

    return wait_for(unless_stopped)
