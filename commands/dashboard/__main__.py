"""`python -m commands.dashboard`: the one place that builds real clients."""

import errno
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from commands.dashboard.probes import Probes
from commands.dashboard.score import ROLE, Score
from commands.dashboard.settings import DashboardSettings, parse_hosts, parse_services
from commands.dashboard.snapshot import Watch
from commands.dashboard.topics_tail import Delays, Late, Letters
from commands.dashboard.warehouse import reader
from commands.dashboard.web import Page, app
from retail_stream.avro.registry import Registry
from retail_stream.errors import SettingsError
from retail_stream.service.program import Program, run_program
from retail_stream.warehouse.roles import READER


def main() -> int:
    """Serve until SIGTERM or SIGINT (0), or a wrong setting (2). Servers that are away are shown as such."""
    return run_program("dashboard", DashboardSettings, serve)


def serve(program: Program, settings: DashboardSettings) -> None:
    """Serve the page until the program is to stop."""
    listening = listen(settings)
    engine = reader(settings)
    registry = Registry(settings.schema_registry_url)
    letters, delays = Letters(settings, registry), Delays(settings, registry)
    services = Probes(parse_services(settings.dashboard_services))
    watch = Watch(settings, engine, services, letters, delays, Late(settings))
    score = Score(reading(settings))
    page = Page(watch, engine, letters, score, program.stop)
    hosts = parse_hosts(settings.dashboard_allowed_hosts)
    host, port = listening.getsockname()[:2]
    program.starts(url=f"http://{host}:{port}")
    watch.start(program.stop)
    config = uvicorn.Config(app(page, hosts), log_config=None, access_log=False, timeout_graceful_shutdown=2)
    try:
        Server(config, program.stop).run([listening])
    finally:
        score.stop()


class Server(uvicorn.Server):
    """Serves until ``stop``; the program then ends by itself, with exit code 0."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        """``stop``: what a signal sets, and the streams end by."""
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: uvicorn's handlers would take the place of ours, and raise the signal again at the end."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Whether to end: asked ten times a second."""
        return await super().on_tick(counter) or self._stop.is_set()


def reading(settings: DashboardSettings) -> dict[str, str]:
    """Variables for the score's program, which is to read as this one does."""
    if settings.dashboard_database_url:
        return {"DATABASE_URL": settings.dashboard_database_url}
    return {ROLE: READER}


def listen(settings: DashboardSettings) -> socket.socket:
    """Take the port.

    Raises:
        SettingsError: another program has it, or this machine has no such address.
    """
    host, port = settings.dashboard_host, settings.dashboard_port
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as e:
        if e.errno in (errno.EADDRINUSE, errno.EACCES):
            why = f"DASHBOARD_PORT={port} cannot be used on {host} ({e.strerror})"
            raise SettingsError(f"{why}; allowed: a free port from 1024 on, or 0 for any.") from e
        why = f"DASHBOARD_HOST={host!r} cannot be listened on ({e.strerror})"
        raise SettingsError(f"{why}; allowed: an address or name of this machine.") from e


if __name__ == "__main__":
    sys.exit(main())
