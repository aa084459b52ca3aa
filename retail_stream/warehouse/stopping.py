"""Ends what waits for a frozen Postgres when its program is to stop."""

import os
import socket
import threading
import weakref
from contextlib import suppress

import psycopg

#: What statements have to end by themselves after a stop.
GRACE_S = 8.0
_AGAIN_S = 0.5


class CutAtStop:
    """Cuts connections ``GRACE_S`` after ``stop`` is set, and every later one, too.

    A server that is frozen (SIGSTOP, a paused machine) acknowledges packets and answers nothing, so no timeout of the
    client ends a wait for it, and a cancel request is not answered either. A wait whose connection is cut raises
    `psycopg.OperationalError`, as if the server had gone.
    """

    def __init__(self, stop: threading.Event, grace_s: float = GRACE_S) -> None:
        self._stop, self._grace_s = stop, grace_s
        self._open: weakref.WeakSet[psycopg.Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="postgres stop", daemon=True).start()

    def add(self, connection: psycopg.Connection) -> None:
        """One more connection to cut; any thread may call it."""
        with self._lock:
            self._open.add(connection)

    def _run(self) -> None:
        self._stop.wait()
        over = threading.Event()
        over.wait(self._grace_s)
        while not over.wait(_AGAIN_S):
            with self._lock:
                connections = list(self._open)
            for connection in connections:
                with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
                    end.shutdown(socket.SHUT_RDWR)
