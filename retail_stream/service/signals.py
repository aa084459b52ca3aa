"""SIGTERM and SIGINT: the first asks a program to stop, the next one ends it."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def listen(first: Callable[[], None]) -> None:
    """Call ``first`` at the first SIGTERM or SIGINT; any later one ends the program at once, with 128 + its number.

    Call it in the main thread; it holds for the rest of the program. ``first`` runs in another thread, as handlers are
    of little use here:

    - Python runs a handler in the main thread, which may be inside a call of the Kafka client for ten seconds.
    - A handler must not set a :class:`threading.Event`. One thread cannot take the event's lock twice: a handler that
      interrupts the main thread inside ``wait`` or ``set`` would wait for itself, for ever.
    - An exception from a handler is lost where exceptions are ignored, such as in a finaliser.

    So a thread waits for the numbers that the interpreter writes to its wakeup descriptor as signals arrive.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def wait() -> None:
        stops = False
        while numbers := ours.recv(64):
            for number in numbers:
                if number in _SIGNALS:
                    if stops:
                        _end(number)
                    stops = True
                    first()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    # A full descriptor holds enough of them: no warning.
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, _ignore)


def _ignore(_: int, __: FrameType | None) -> None:
    """Python writes a signal's number to the descriptor only if the signal has a handler."""


def _end(number: int) -> None:
    os._exit(128 + number)
