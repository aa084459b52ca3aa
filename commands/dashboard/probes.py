"""The state of each service from its health pages, and its broken rules from its metrics."""

import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

from commands.dlq.show import for_terminal

_PATIENCE_S = 1.0
#: Bytes of a log that are searched for its last line, and characters of a line that are shown.
_LOG_BYTES, _LINE = 8192, 300
#: Bytes of an answer that are read: an address may be that of another program.
_MOST_BYTES = 4_000_000
#: Seconds for which a replica that DNS no longer names is still asked: a dead one leaves DNS at once.
REMEMBERED_S = 60.0
#: Services are on our own network: http_proxy does not apply.
_open = build_opener(ProxyHandler({})).open
#: (entity, action, rule) → records that broke the rule since the cleaner started
Broken = Mapping[tuple[str, str, str], float]


@dataclass(frozen=True)
class Replica:
    """One process of a service. ``state``: ``ready``, ``starting`` (it answers, but is not ready) or ``down``.

    ``broken``: from its last metrics. ``why``: a sentence, empty for one that is ready.
    """

    address: str
    state: str
    broken: Broken = field(default_factory=dict)
    why: str = ""


class Probes:
    """Asks every replica of every service at once."""

    def __init__(self, services: Mapping[str, tuple[str, int]], logs: Path | None = None) -> None:
        """``services``: name → (host, port) of its health pages. ``logs``: a folder with ``<name>.log``."""
        self._services = services
        self._logs = logs
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="probe")
        self._broken: dict[str, Broken] = {}
        self._seen: dict[str, dict[str, float]] = {name: {} for name in services}

    def ask(self) -> dict[str, list[Replica]]:
        """The replicas of each service now; a name without an address is one replica that is down."""
        asked = {name: self._threads.submit(self._service, name, *address) for name, address in self._services.items()}
        replicas = {name: future.result() for name, future in asked.items()}
        # Replicas come and go under ever new addresses.
        there = {r.address for some in replicas.values() for r in some}
        self._broken = {address: broken for address, broken in self._broken.items() if address in there}
        return replicas

    def _service(self, name: str, host: str, port: int) -> list[Replica]:
        addresses = self._addresses(name, host, port, time.monotonic())
        if not addresses:
            return [Replica(f"{host}:{port}", "down", why=f"The name {host} has no address.")]
        return [self._replica(name, address) for address in addresses]

    def _addresses(self, name: str, host: str, port: int, now: float) -> list[str]:
        """The addresses of the name, now or within the last minute."""
        seen = self._seen[name]
        with suppress(OSError):
            resolved = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
            seen.update({f"{address[0]}:{port}": now for *_, address in resolved})
        for address in [address for address, at in seen.items() if now - at > REMEMBERED_S]:
            del seen[address]
        return sorted(seen)

    def _replica(self, name: str, address: str) -> Replica:
        broken = self._broken.get(address, {})
        alive, why = _get(address, "/healthz")
        if alive is None:
            return Replica(address, "down", broken, f"{why}{self._last_line(name)}")
        # It asks its servers whether it is ready, which takes long while one of them is away.
        ready, why = _get(address, "/readyz")
        metrics, _ = _get(address, "/metrics")
        if metrics is not None:
            broken = self._broken[address] = _parse_broken(metrics)
        return Replica(address, "starting" if ready is None else "ready", broken, "" if ready is not None else why)

    def _last_line(self, name: str) -> str:
        """What a service that is down logged last; empty where its log is not on this machine."""
        if self._logs is None:
            return ""
        try:
            with (self._logs / f"{name}.log").open("rb") as log:
                log.seek(max(0, log.seek(0, 2) - _LOG_BYTES))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f" Its last line: {for_terminal(last.strip(), _LINE)}" if last else ""


def as_rows(services: Mapping[str, Iterable[Replica]]) -> list[dict[str, Any]]:
    """For the page: a row per service; ``degraded`` if only some of its replicas are ready."""
    rows = []
    for name, replicas in services.items():
        states = [r.state for r in replicas]
        state = "down" if "ready" not in states and "starting" not in states else "ready"
        if state == "ready" and ("starting" in states or "down" in states):
            state = "starting" if "ready" not in states else "degraded"
        why = next((r.why for r in replicas if r.state == "down"), "") or next((r.why for r in replicas if r.why), "")
        rows.append({"name": name, "state": state, "ready": states.count("ready"), "replicas": len(states), "why": why})
    return rows


def broken(services: Mapping[str, Iterable[Replica]]) -> dict[tuple[str, str, str], float]:
    """Broken rules, summed over all replicas."""
    sums: dict[tuple[str, str, str], float] = {}
    for replica in (r for some in services.values() for r in some):
        for rule, n in replica.broken.items():
            sums[rule] = sums.get(rule, 0) + n
    return sums


def _get(address: str, path: str) -> tuple[str | None, str]:
    """The body of an answer with status 200, or None and a sentence."""
    try:
        with _open(f"http://{address}{path}", timeout=_PATIENCE_S) as answer:
            body: bytes = answer.read(_MOST_BYTES)
            return body.decode(), ""
    except HTTPError as e:
        # "not ready: kafka, assigned" says more than the status.
        with e:
            return None, f"{address} says: {for_terminal(e.read(_LINE).decode(errors='replace').strip(), _LINE)}."
    except (OSError, ValueError) as e:
        reason = getattr(e, "reason", e)
        words = (
            "no answer within 1 s" if isinstance(reason, TimeoutError) else getattr(reason, "strerror", None) or reason
        )
        return None, f"{address} does not answer ({words})."


def _parse_broken(metrics: str) -> Broken:
    lines = (line for line in metrics.splitlines(True) if line.startswith("cleaner_rules_broken_total"))
    broken: dict[tuple[str, str, str], float] = {}
    # Another program may answer at the address.
    with suppress(ValueError, KeyError):
        for family in text_string_to_metric_families("".join(lines)):
            for s in family.samples:
                broken[s.labels["entity"], s.labels["action"], s.labels["rule"]] = s.value
    return broken
