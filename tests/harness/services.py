"""Services as processes, as `python -m services.<name>` starts them: configured by environment only."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from retail_stream.settings import SERVERS, Connections
from tests.harness.endpoint import Endpoint, free_port

ROOT = Path(__file__).resolve().parents[2]
_STOP_S = 60.0


class ServiceProcess:
    """A running service, its log file and its endpoint."""

    def __init__(
        self, name: str, env: Mapping[str, str], log: Path, folder: Path = ROOT, python: str = sys.executable
    ) -> None:
        """``name``: of a service, or of a module in its place. ``env``: added to the environment of the tests.

        ``folder``: holds the code that runs; ``python``: runs it.
        """
        self.at = Endpoint(free_port())
        self._log = log
        with log.open("a") as out:
            self.process = subprocess.Popen(
                [python, "-m", name if "." in name else f"services.{name}"],
                env={**os.environ, "METRICS_PORT": str(self.at.port), **env},
                stdout=out,
                stderr=out,
                cwd=folder,
            )

    def log(self) -> str:
        """What it and others with the same log file have logged so far."""
        return self._log.read_text()

    def send_signal(self, signum: int) -> None:
        """Send a signal and return at once."""
        self.process.send_signal(signum)

    def wait(self, within_s: float = _STOP_S) -> int:
        """Wait for its end; returns the exit code, negative for a signal."""
        return self.process.wait(within_s)

    def stop(self, within_s: float = _STOP_S) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(within_s)

    def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        self.process.kill()
        self.process.wait()

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None


class Services:
    """A context that starts services with one environment and one log file; those still running at its end are killed.

    The log file is printed at the end, so that a test that fails shows it.
    """

    def __init__(self, env: Mapping[str, str], log: Path, folder: Path = ROOT, python: str = sys.executable) -> None:
        self.env, self.log_file, self.folder, self.python = dict(env), log, folder, python
        self.started: list[ServiceProcess] = []

    def start(self, name: str, **settings: str) -> ServiceProcess:
        """Start a service; ``settings``: environment variables for it alone."""
        self.started.append(ServiceProcess(name, {**self.env, **settings}, self.log_file, self.folder, self.python))
        return self.started[-1]

    def log(self) -> str:
        """What the services have logged so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def kill(self) -> None:
        """SIGKILL to all."""
        for service in self.started:
            service.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        print(self.log())


def servers_of(connections: Connections) -> dict[str, str]:
    """The environment variables that say where the servers are."""
    return {name.upper(): str(getattr(connections, name)) for name in SERVERS}
