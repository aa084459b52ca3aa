"""Settings of the merger."""

from retail_stream.service.metrics import MetricsPort
from retail_stream.settings import Connections


class MergerSettings(Connections):
    """The three servers and METRICS_PORT (0: any free port)."""

    metrics_port: MetricsPort = 9103
