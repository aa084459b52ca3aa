"""What a service does with SIGTERM and SIGINT: stop at once while it holds nothing, or set an event."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def sets(stop: threading.Event, *, second_kills: bool = False) -> None:
    """From now on SIGTERM and SIGINT set ``stop``, for the rest of the program. To be called in the main thread.

    A thread sets it, never the handler: an event's lock cannot be taken twice by one thread, so a handler that
    interrupts its own main thread inside ``set`` or ``wait`` would wait for itself, for ever. The thread is told by the
    number that the interpreter writes to its wakeup descriptor. ``second_kills``: a second one does not wait.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def wait() -> None:
        while numbers := ours.recv(64):
            if not set(_SIGNALS).isdisjoint(numbers):
                stop.set()

    def handle(number: int, _: FrameType | None) -> None:
        # Python writes to the descriptor only for signals that have a handler.
        if second_kills:
            signal.signal(number, signal.SIG_DFL)

    threading.Thread(target=wait, name="stop", daemon=True).start()
    # A full descriptor holds more than enough of them.
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, handle)


@contextmanager
def at_once() -> Iterator[None]:
    """While inside, a signal that has a handler ends the program at once with exit code 0: it holds no data yet.

    Python runs handlers in the main thread, which may be inside a Kafka client's call for ten seconds, and an exception
    from a handler is lost where exceptions are ignored (a finaliser, a callback). So a thread waits for the number that
    the interpreter writes to its wakeup descriptor when the signal arrives. To be entered in the main thread.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def wait() -> None:
        if ours.recv(1):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    before = signal.set_wakeup_fd(theirs.fileno())
    waiting = threading.Thread(target=wait, name="stop-at-once", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()
        waiting.join()
        ours.close()
