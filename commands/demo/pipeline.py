"""The four services, and the page about them, as processes of this machine, for `demo`, `up` and the system tests."""

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from commands.embedded.processes import Process, ProcessGroup
from commands.embedded.settings import free_ports, is_free

# Longer than a service takes to finish the batch in hand.
_STOP_S = 30.0


class Service(StrEnum):
    """The services, in the order of the flow."""

    GENERATOR = "generator"
    CLEANER = "cleaner"
    SCD_MERGER = "scd_merger"
    AGGREGATOR = "aggregator"


#: Where each serves its metrics by default.
METRICS_PORTS = dict(zip(Service, range(9101, 9105), strict=True))

#: The page that shows the pipeline: started with it, and no part of the flow.
DASHBOARD = "dashboard"


class Pipeline:
    """Services that stop with us, whatever happens to us; each logs to ``<logs>/<service>.log``.

    Each serves its metrics on a port that it keeps when it is started again, so that the dashboard finds it.
    """

    def __init__(self, group: ProcessGroup, env: Mapping[str, str], logs: Path, *, usual_ports: bool = False) -> None:
        """``env``: added to our own environment, for every service.

        ``usual_ports``: metrics are served where they are by default, as far as these ports are free.
        """
        logs.mkdir(parents=True, exist_ok=True)
        self._group = group
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **env}
        self.metrics_ports = dict(zip(Service, free_ports(len(Service)), strict=True))
        if usual_ports:
            self.metrics_ports |= {s: port for s, port in METRICS_PORTS.items() if is_free(port)}
        self.logs = logs
        self.processes: dict[Service, Process] = {}
        self.dashboard: Process | None = None

    def start(self, service: Service, **env: str) -> Process:
        """Start a service, or start it again; ``env`` is for it alone."""
        env = {"METRICS_PORT": str(self.metrics_ports[service]), **env}
        process = self._spawn(service, self.log(service), env)
        self.processes[service] = process
        return process

    def start_dashboard(self, port: int, **env: str) -> str:
        """Start the page on this port of loopback; returns its address. ``env`` is for it alone."""
        services = ",".join(f"{service}=127.0.0.1:{at}" for service, at in self.metrics_ports.items())
        env = {"DASHBOARD_PORT": str(port), "DASHBOARD_SERVICES": services, **env}
        self.dashboard = self._spawn(DASHBOARD, self.logs / f"{DASHBOARD}.log", env)
        return f"http://127.0.0.1:{port}"

    def _spawn(self, name: str, log: Path, env: Mapping[str, str]) -> Process:
        package = "commands" if name == DASHBOARD else "services"
        argv = [sys.executable, "-m", f"{package}.{name}"]
        return self._group.spawn(name, argv, env={**self._env, **env}, log=log, cwd=_ROOT)

    def stop(self, service: Service) -> int:
        """SIGTERM, and wait for a clean end; returns the exit code."""
        self.processes[service].terminate()
        return self.processes[service].wait(_STOP_S)

    def log(self, service: Service) -> Path:
        """Where a service's output goes."""
        return self.logs / f"{service}.log"

    def dead(self) -> dict[Service, int]:
        """Services that ended by themselves, with their exit codes."""
        codes = {service: process.poll() for service, process in self.processes.items()}
        return {service: code for service, code in codes.items() if code is not None}


_ROOT = Path(__file__).resolve().parents[2]
