import threading


class Stopped(Exception):
    """A signal stopped the service while it waited for a server."""


def stop_check(stop: threading.Event) -> None:
    """Raise :class:`Stopped` once ``stop`` is set."""
    if stop.is_set():
        raise Stopped
