"""The four services as processes of this machine, for `demo`, `up` and the system tests."""

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from retail_stream.embedded.processes import Process, ProcessGroup

# Longer than a service takes to finish the batch in hand.
_STOP_S = 30.0


class Service(StrEnum):
    """The services, in the order of the flow."""

    GENERATOR = "generator"
    CLEANER = "cleaner"
    SCD_MERGER = "scd_merger"
    AGGREGATOR = "aggregator"


class Pipeline:
    """Services that stop with us, whatever happens to us; each logs to ``<logs>/<service>.log``."""

    def __init__(self, group: ProcessGroup, env: Mapping[str, str], logs: Path) -> None:
        """``env``: added to our own environment, for every service."""
        logs.mkdir(parents=True, exist_ok=True)
        self._group = group
        self._env = {**os.environ, "METRICS_PORT": "0", "PYTHONUNBUFFERED": "1", **env}
        self.logs = logs
        self.processes: dict[Service, Process] = {}

    def start(self, service: Service, **env: str) -> Process:
        """Start a service, or start it again; ``env`` is for it alone."""
        argv = [sys.executable, "-m", f"services.{service}"]
        process = self._group.spawn(service, argv, env={**self._env, **env}, log=self.log(service), cwd=_ROOT)
        self.processes[service] = process
        return process

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


_ROOT = Path(__file__).resolve().parent.parent
