"""Each service's metrics, liveness and readiness over HTTP: ``/metrics``, ``/healthz``, ``/readyz``."""

import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field

MetricsPort = Annotated[int, Field(ge=0, le=65535, description="a port from 1 to 65535, or 0 for a free one")]

_log = structlog.get_logger(__name__)


class Health:
    """What ``/readyz`` answers: 200 while ``ready``, else 503. ``port`` is where it listens."""

    def __init__(self) -> None:
        """Not ready, not listening."""
        #: a function is asked at each request, in the server's thread
        self.ready: bool | Callable[[], bool] = False
        self.port = 0

    @property
    def is_ready(self) -> bool:
        """Now."""
        return self.ready() if callable(self.ready) else self.ready


def serve(port: int) -> Health:
    """Serve on ``METRICS_HOST`` (default 127.0.0.1) in a daemon thread; a taken port falls back to a free one."""
    health = Health()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind = "text/plain"
            match self.path:
                case "/metrics":
                    status, body, kind = 200, generate_latest(), CONTENT_TYPE_LATEST
                case "/healthz":
                    status, body = 200, b"ok\n"
                case "/readyz":
                    status, body = (200, b"ready\n") if health.is_ready else (503, b"not ready\n")
                case _:
                    status, body = 404, b"not here; try /metrics, /healthz, /readyz\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """One line a probe would drown the log."""

    host = os.environ.get("METRICS_HOST", "127.0.0.1")
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError:
        server = ThreadingHTTPServer((host, 0), Handler)
        _log.warning("metrics port is taken", port=port, instead=server.server_port)
    server.daemon_threads = True
    health.port = server.server_port
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return health
