"""The state of each service from its health pages, and its broken rules from its metrics."""

import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

_PATIENCE_S = 1.0
#: Seconds for which a replica that DNS no longer names is still asked: a dead one leaves DNS at once.
REMEMBERED_S = 60.0
#: Services are on our own network: http_proxy does not apply.
_open = build_opener(ProxyHandler({})).open
#: (entity, action, rule) → records that broke the rule since the cleaner started
Broken = Mapping[tuple[str, str, str], float]


@dataclass(frozen=True)
class Replica:
    """One process of a service. ``state``: ``ready``, ``starting`` (it answers, but is not ready) or ``down``.

    ``broken``: from its last metrics.
    """

    address: str
    state: str
    broken: Broken = field(default_factory=dict)


class Probes:
    """Asks every replica of every service at once."""

    def __init__(self, services: Mapping[str, tuple[str, int]]) -> None:
        """``services``: name → (host, port) of its health pages."""
        self._services = services
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="probe")
        self._broken: dict[str, Broken] = {}
        self._seen: dict[str, dict[str, float]] = {name: {} for name in services}

    def ask(self) -> dict[str, list[Replica]]:
        """The replicas of each service now; a name without an address is one replica that is down."""
        asked = {name: self._threads.submit(self._service, name, *address) for name, address in self._services.items()}
        return {name: future.result() for name, future in asked.items()}

    def _service(self, name: str, host: str, port: int) -> list[Replica]:
        addresses = self._addresses(name, host, port, time.monotonic())
        return [self._replica(address) for address in addresses] or [Replica(f"{host}:{port}", "down")]

    def _addresses(self, name: str, host: str, port: int, now: float) -> list[str]:
        """The addresses of the name, now or within the last minute."""
        seen = self._seen[name]
        with suppress(OSError):
            resolved = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
            seen.update({f"{address[0]}:{port}": now for *_, address in resolved})
        for address in [address for address, at in seen.items() if now - at > REMEMBERED_S]:
            del seen[address]
        return sorted(seen)

    def _replica(self, address: str) -> Replica:
        broken = self._broken.get(address, {})
        if _get(address, "/healthz") is None:
            return Replica(address, "down", broken)
        # It asks its servers whether it is ready, which takes long while one of them is away.
        state = "ready" if _get(address, "/readyz") is not None else "starting"
        if (metrics := _get(address, "/metrics")) is not None:
            broken = self._broken[address] = _parse_broken(metrics)
        return Replica(address, state, broken)


def as_rows(services: Mapping[str, Iterable[Replica]]) -> list[dict[str, Any]]:
    """For the page: a row per service; ``degraded`` if only some of its replicas are ready."""
    rows = []
    for name, replicas in services.items():
        states = [r.state for r in replicas]
        state = "down" if "ready" not in states and "starting" not in states else "ready"
        if state == "ready" and ("starting" in states or "down" in states):
            state = "starting" if "ready" not in states else "degraded"
        rows.append({"name": name, "state": state, "ready": states.count("ready"), "replicas": len(states)})
    return rows


def broken(services: Mapping[str, Iterable[Replica]]) -> dict[tuple[str, str, str], float]:
    """Broken rules, summed over all replicas."""
    sums: dict[tuple[str, str, str], float] = {}
    for replica in (r for some in services.values() for r in some):
        for rule, n in replica.broken.items():
            sums[rule] = sums.get(rule, 0) + n
    return sums


def _get(address: str, path: str) -> str | None:
    """The body of an answer with status 200, else None."""
    try:
        with _open(f"http://{address}{path}", timeout=_PATIENCE_S) as answer:
            body: bytes = answer.read()
            return body.decode()
    except (OSError, ValueError):
        return None


def _parse_broken(metrics: str) -> Broken:
    lines = (line for line in metrics.splitlines(True) if line.startswith("cleaner_rules_broken_total"))
    return {
        (s.labels["entity"], s.labels["action"], s.labels["rule"]): s.value
        for family in text_string_to_metric_families("".join(lines))
        for s in family.samples
    }
