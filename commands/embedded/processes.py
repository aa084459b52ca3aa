"""Processes that never outlive this one, even if it is killed: `guardian.py` stops them.

with ProcessGroup() as group:
    broker = group.spawn("kafka", [...], env={...}, log=path)
    broker.terminate()
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from commands.embedded import guardian
from commands.embedded.errors import EmbeddedError, ServerDied

# The child reports its own pid and then becomes the program, so the guardian knows every program that runs. Until then
# its standard input is the guardian's pipe.
_REPORT_AND_BECOME = 'echo "+$$ $0" >&0; exec "$@" </dev/null'


class Process:
    """A running program in a process group of its own."""

    def __init__(
        self, name: str, popen: subprocess.Popen[bytes], stop_signal: int, log: Path, reaped: Callable[[int], None]
    ) -> None:
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self._popen = popen
        self._reaped = reaped

    @property
    def pid(self) -> int:
        """The process id, and the number of its process group."""
        return self._popen.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        code = self._popen.poll()
        if code is not None:
            self._reaped(self.pid)
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; raises subprocess.TimeoutExpired after `timeout` seconds."""
        self._popen.wait(timeout)
        self._reaped(self.pid)
        return self._popen.returncode

    def terminate(self) -> None:
        """Send its stop signal, SIGTERM unless `spawn` got another."""
        if self.stop_signal == signal.SIGKILL:
            self.kill()
        else:
            self._popen.send_signal(self.stop_signal)

    def kill(self) -> None:
        """SIGKILL to its whole process group, and wait until it is gone."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()

    def last_lines(self, count: int = 5) -> str:
        """The last lines of its log, joined into one, for an error sentence."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-count:])


class ProcessGroup:
    """A context that starts processes, and stops all of them at its end, or when this process ends.

    `held`: descriptors (locks) that stay open until the last process has ended, even if this process is killed.
    """

    def __init__(self, held: Sequence[int] = ()) -> None:
        self._held = tuple(held)
        self._processes: list[Process] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        reader, self._pipe = os.pipe()
        try:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, str(os.getpid())],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=self._held,
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(reader)
        return self

    def spawn(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Process:
        """Start a program whose output is appended to `log`.

        `env`: its whole environment, None for ours; `user`: user and group id to run as, which needs root.
        """
        if self._guardian.poll() is not None:
            raise EmbeddedError(
                f"Cannot start {name}: the guardian process {self._guardian.pid} has ended; start the command again."
            )
        identity: dict[str, Any] = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
        with log.open("ab") as output:
            popen = subprocess.Popen(
                ["/bin/sh", "-c", _REPORT_AND_BECOME, str(int(stop_signal)), *map(str, argv)],
                stdin=self._pipe,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
                **identity,
            )
        process = Process(name, popen, stop_signal, log, self._forget)
        with self._lock:
            self._processes.append(process)
        return process

    def run(self, name: str, argv: Sequence[str | Path], *, log: Path, **how: Any) -> None:
        """Start a program as `spawn` does and wait for it; raises ServerDied unless it exits with 0."""
        process = self.spawn(name, argv, log=log, **how)
        if process.wait() != 0:
            raise ServerDied(
                f"{name} ended with exit code {process.poll()}; the last lines of {log}: {process.last_lines()}"
            )

    def _forget(self, pid: int) -> None:
        with self._lock:
            left = [process for process in self._processes if process.pid != pid]
            known = len(left) < len(self._processes)
            self._processes = left
        if known:
            with contextlib.suppress(BrokenPipeError):  # the next spawn reports that the guardian has ended
                os.write(self._pipe, f"-{pid}\n".encode())

    def stop(self, grace_s: float = guardian.GRACE_S) -> None:
        """Send every process its stop signal, and kill those that still run after `grace_s` seconds."""
        running = [process for process in list(self._processes) if process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + grace_s
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            # If stopping was interrupted, the guardian stops the rest.
            os.close(self._pipe)
            self._guardian.wait()
