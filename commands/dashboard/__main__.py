"""`retail-stream dashboard` and `python -m commands.dashboard`: the one place that builds the page's real clients."""

import errno
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from commands.dashboard.delays import Delays
from commands.dashboard.probes import Probes
from commands.dashboard.records import Records
from commands.dashboard.settings import DashboardSettings, parse_hosts, parse_services
from commands.dashboard.snapshot import Snapshots
from commands.dashboard.topics_tail import Late, Letters
from commands.dashboard.warehouse import reader
from commands.dashboard.web import Page, app
from commands.tail import registered
from retail_stream.avro.registry import Registry
from retail_stream.errors import SettingsError
from retail_stream.service.program import Program, run_program


def main() -> int:
    """Serve the page; returns 0 after SIGTERM or SIGINT, 2 for a wrong setting."""
    return run_program("dashboard", DashboardSettings, serve)


def serve(program: Program, settings: DashboardSettings) -> None:
    """Serve the page until SIGTERM or SIGINT. It names servers that do not answer.

    Raises:
        SettingsError: it cannot listen on DASHBOARD_HOST and DASHBOARD_PORT.
    """
    listening = listen(settings)
    engine = reader(settings)
    registry = Registry(settings.schema_registry_url)
    letters, delays = Letters(settings, registry), Delays(settings, registry)
    services = Probes(parse_services(settings.dashboard_services), settings.dashboard_logs)
    snapshots = Snapshots(settings, engine, services, letters, delays, Late(settings))
    topics = Records(settings, engine, registered(settings))
    page = Page(snapshots, reader(settings), letters, topics, program.stop)
    hosts = parse_hosts(settings.dashboard_allowed_hosts)
    host, port = listening.getsockname()[:2]
    program.starts(url=f"http://{host}:{port}")
    snapshots.start(program.stop)
    config = uvicorn.Config(app(page, hosts), log_config=None, access_log=False, timeout_graceful_shutdown=2)
    Server(config, program.stop).run([listening])


class Server(uvicorn.Server):
    """Serves until ``stop``; the program then ends by itself, with exit code 0."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        """``stop``: set by a signal; it also ends the streams."""
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: uvicorn's would replace ours, and raise the signal again at the end."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Whether to end: asked ten times a second."""
        return await super().on_tick(counter) or self._stop.is_set()


def listen(settings: DashboardSettings) -> socket.socket:
    """Open the listening socket.

    Raises:
        SettingsError: the port is taken, or this machine does not have the address.
    """
    host, port = settings.dashboard_host, settings.dashboard_port
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as e:
        if e.errno in (errno.EADDRINUSE, errno.EACCES):
            raise SettingsError(
                f"DASHBOARD_PORT={port} cannot be used on {host} ({e.strerror}); allowed: a free port from 1024 on, or "
                "0 for any free one."
            ) from e
        raise SettingsError(
            f"DASHBOARD_HOST={host!r} cannot be used ({e.strerror}); allowed: an address or name of this machine."
        ) from e


if __name__ == "__main__":
    sys.exit(main())
