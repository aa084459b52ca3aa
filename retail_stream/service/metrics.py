"""Each service's metrics, liveness and readiness over HTTP: ``/metrics``, ``/healthz``, ``/readyz``."""

import errno
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from pydantic import Field

from retail_stream.errors import SettingsError
from retail_stream.settings import Settings, load

#: The empty string would be every address of the machine.
Host = Annotated[
    str, Field(pattern=r"^\S+$", description="an address or name of this machine, such as 127.0.0.1 or 0.0.0.0")
]
MetricsPort = Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for a free one")]

#: How long a client may take to say what it wants.
_REQUEST_S = 10.0
_log = structlog.get_logger(__name__)


class Gauges(Collector):
    """Gauges that are read when somebody scrapes them, so that they cost nothing otherwise.

    ``read`` gives the value for each combination of label values that there is now: a partition that went to another
    worker leaves no sample behind. It is called from the scraper's thread. Without labels: ``{(): value}`` or ``{}``.
    """

    def __init__(self, name: str, documentation: str, *labels: str, registry: CollectorRegistry = REGISTRY) -> None:
        """No samples until somebody sets ``read``."""
        self._name, self._documentation, self._labels = name, documentation, labels
        self.read: Callable[[], Mapping[tuple[str, ...], float]] = dict
        registry.register(self)

    def describe(self) -> list[Metric]:
        """The name, without samples."""
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        """The samples of now."""
        family = self._family()
        for labels, value in self.read().items():
            family.add_metric(labels, value)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self._labels)


class Health:
    """What ``/readyz`` answers: 200 while every condition holds, else 503 and which do not. ``port``: it listens there.

    Conditions are asked at each request, in the server's thread.
    """

    def __init__(self) -> None:
        """Not ready, not listening."""
        self.port = 0
        self._conditions: Mapping[str, Callable[[], bool]] = {"started": lambda: False}

    def needs(self, **conditions: Callable[[], bool]) -> None:
        """From now on it is ready while all of these hold."""
        self._conditions = {"started": lambda: True, **conditions}

    def now(self) -> dict[str, bool]:
        """Each condition, and whether it holds."""
        return {name: holds() for name, holds in self._conditions.items()}


_READY = Gauges("retail_stream_ready", "Conditions of readiness: 1 holds, 0 does not; ready is min()", "condition")


class MetricsSettings(Settings):
    """Where to listen; the port is each service's own setting."""

    metrics_host: Host = "127.0.0.1"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """One event instead of a traceback on stderr; a scraper that hangs up is none."""
        if not isinstance(error := sys.exception(), ConnectionError | TimeoutError):
            _log.error("a request for metrics failed", why=repr(error))


def serve(port: int) -> Health:
    """Serve on ``METRICS_HOST`` (default 127.0.0.1) in a daemon thread; a taken port falls back to a free one.

    Raises:
        SettingsError: METRICS_HOST is empty or no address of this machine, or the port is not ours to take.
    """
    health = Health()
    _READY.read = lambda: {(name,): float(holds) for name, holds in health.now().items()}
    # A second series for each counter and histogram, which tells nothing that process_start_time_seconds does not.
    disable_created_metrics()

    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S

        def do_GET(self) -> None:
            kind = "text/plain; charset=utf-8"
            match urlsplit(self.path).path:
                case "/metrics":
                    status, body, kind = 200, generate_latest(), CONTENT_TYPE_LATEST
                case "/healthz":
                    status, body = 200, b"ok\n"
                case "/readyz":
                    missing = [name for name, holds in health.now().items() if not holds]
                    status, body = (
                        (503, f"not ready: {', '.join(missing)}\n".encode()) if missing else (200, b"ready\n")
                    )
                case _:
                    status, body = 404, b"not here; try /metrics, /healthz, /readyz\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """One line a probe would drown the log."""

    host = load(MetricsSettings).metrics_host
    try:
        server = _listen(host, port, Handler)
    except OSError as e:
        if e.errno == errno.EACCES:
            raise SettingsError(
                f"METRICS_PORT={port} cannot be used ({e.strerror}); allowed: a port from 1024 on, or 0."
            ) from e
        why = f"METRICS_HOST={host!r} cannot be listened on ({e.strerror})"
        raise SettingsError(f"{why}; allowed: an address or name of this machine.") from e
    health.port = server.server_port
    _log.info("metrics", at=f"http://{host}:{health.port}/metrics")
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return health


def _listen(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    """On the port, or a free one where somebody else has it."""
    try:
        return _Server((host, port), handler)
    except OSError as e:
        if e.errno != errno.EADDRINUSE:
            raise
    server = _Server((host, 0), handler)
    _log.warning("metrics port is taken", port=port, instead=server.server_port)
    return server
