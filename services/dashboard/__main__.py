"""`python -m services.dashboard`: the one place that builds real clients."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from retail_stream import logs, stopping
from retail_stream.errors import SettingsError
from retail_stream.registry import Registry
from retail_stream.settings import load
from services.dashboard.probes import Probes
from services.dashboard.score import Score
from services.dashboard.settings import DashboardSettings, parse_services
from services.dashboard.snapshot import Watch
from services.dashboard.topics_tail import Delays, Late, Letters
from services.dashboard.warehouse import reader
from services.dashboard.web import Page, app


def main() -> int:
    """Serve until SIGTERM or SIGINT (0), or a wrong setting (2). Servers that are away are shown as such."""
    logs.configure("dashboard")
    try:
        settings = load(DashboardSettings)
        listening = listen(settings)
    except SettingsError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    stop = threading.Event()
    stopping.sets(stop)
    engine = reader(settings)
    registry = Registry(settings.schema_registry_url)
    letters, delays = Letters(settings, registry), Delays(settings, registry)
    services = Probes(parse_services(settings.dashboard_services))
    watch = Watch(settings, engine, services, letters, delays, Late(settings))
    page = Page(watch, engine, letters, Score(), stop)
    hosts = [name.strip() for name in settings.dashboard_allowed_hosts.split(",")]
    watch.start(stop)
    host, port = listening.getsockname()[:2]
    structlog.get_logger().info("dashboard starts", url=f"http://{host}:{port}")
    config = uvicorn.Config(app(page, hosts), log_config=None, access_log=False, timeout_graceful_shutdown=2)
    Server(config, stop).run([listening])
    structlog.get_logger().info("dashboard stopped")
    return 0


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


def listen(settings: DashboardSettings) -> socket.socket:
    """Take the port.

    Raises:
        SettingsError: somebody else has it.
    """
    address = (settings.dashboard_host, settings.dashboard_port)
    try:
        return socket.create_server(address, backlog=128)
    except OSError as e:
        raise SettingsError(
            f"DASHBOARD_PORT={settings.dashboard_port}: {settings.dashboard_host} does not let us listen there "
            f"({e.strerror}); allowed: a free port, or 0 for any."
        ) from e


if __name__ == "__main__":
    sys.exit(main())
