"""A stop before there is anything to finish."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
