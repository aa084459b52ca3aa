"""The four services and the dashboard as processes of this machine, for `demo`, `up` and the system tests."""

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from commands.embedded.processes import Process, ProcessGroup
from commands.embedded.settings import free_ports, is_free

# Longer than a service takes to finish its current batch.
_STOP_S = 60.0


class Service(StrEnum):
    """The services, in the order of the flow."""

    GENERATOR = "generator"
    CLEANER = "cleaner"
    SCD_MERGER = "scd_merger"
    AGGREGATOR = "aggregator"


#: The default metrics port of each service.
METRICS_PORTS = dict(zip(Service, range(9101, 9105), strict=True))

#: The page about the pipeline; the flow does not need it.
DASHBOARD = "dashboard"


class Pipeline:
    """Services that stop when this process ends in any way; each logs to ``<logs>/<service>.log``.

    A restarted service keeps its metrics port, which the dashboard knows.
    """

    def __init__(self, group: ProcessGroup, env: Mapping[str, str], logs: Path, *, usual_ports: bool = False) -> None:
        """``env``: added to this process's environment, for every service.

        ``usual_ports``: serve metrics on the default ports, except those that are taken.
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
        """Start a service, or restart it; ``env`` is for this service only."""
        env = {"METRICS_PORT": str(self.metrics_ports[service]), **env}
        process = self._spawn(service, self.log(service), env)
        self.processes[service] = process
        return process

    def start_dashboard(self, port: int, **env: str) -> str:
        """Start the dashboard on this port of loopback; returns its URL. ``env`` is for it only."""
        services = ",".join(f"{service}=127.0.0.1:{at}" for service, at in self.metrics_ports.items())
        env = {"DASHBOARD_PORT": str(port), "DASHBOARD_SERVICES": services, "DASHBOARD_LOGS": str(self.logs), **env}
        self.dashboard = self._spawn(DASHBOARD, self.logs / f"{DASHBOARD}.log", env)
        return f"http://127.0.0.1:{port}"

    def _spawn(self, name: str, log: Path, env: Mapping[str, str]) -> Process:
        package = "commands" if name == DASHBOARD else "services"
        argv = [sys.executable, "-m", f"{package}.{name}"]
        return self._group.spawn(name, argv, env={**self._env, **env}, log=log, cwd=_ROOT)

    def stop(self, service: Service) -> int:
        """Send SIGTERM and wait for the end; returns the exit code."""
        self.processes[service].terminate()
        return self.processes[service].wait(_STOP_S)

    def log(self, service: Service) -> Path:
        """The log file of a service."""
        return self.logs / f"{service}.log"

    def dead(self) -> dict[Service, int]:
        """The services that have ended by themselves, with their exit codes."""
        codes = {service: process.poll() for service, process in self.processes.items()}
        return {service: code for service, code in codes.items() if code is not None}


_ROOT = Path(__file__).resolve().parents[2]
