"""What a service says over HTTP."""

import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@dataclass(frozen=True)
class Endpoint:
    """A service's metrics port."""

    port: int

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body; (0, "") while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def families(self) -> Mapping[str, Metric]:
        """Metric families by their name on /metrics (a counter's without ``_total``)."""
        status, body = self.ask("/metrics")
        assert status == 200, status
        return {family.name: family for family in text_string_to_metric_families(body)}

    def value(self, sample: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels."""
        return sum(
            s.value
            for family in self.families().values()
            for s in family.samples
            if s.name == sample and labels.items() <= s.labels.items()
        )
