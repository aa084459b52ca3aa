"""The score of the planted faults, computed by `retail-stream score` beside us and kept for a while."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from retail_stream.errors import RetailStreamError, Unavailable

#: A result that is older is computed anew when somebody asks; an error sooner.
KEPT_S, ERROR_KEPT_S = 30.0, 5.0
_LIMIT_S = 300
_NICE = 15
#: As `retail-stream score`, in sessions that can only read.
COMMAND = (sys.executable, "-m", "commands.dashboard.scoring")
#: Names the role that its sessions take.
ROLE = "DASHBOARD_ROLE"


class Score:
    """One run at a time, in a thread of its own, however many ask; none of them waits.

    It reads all topics, so it gives way to everything else.
    """

    def __init__(self, env: Mapping[str, str], command: tuple[str, ...] = COMMAND) -> None:
        """``env``: added to our own environment for ``command``. Runs nothing until somebody asks."""
        self._env, self._command = env, command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._computing = self._stopped = False
        self._last: dict[str, Any] = {}
        self._error: RetailStreamError | None = None
        self._ended_at = 0.0

    def get(self) -> dict[str, Any]:
        """What `retail-stream score --json` last printed, ``at``: when that was, and ``computing``: a newer one comes.

        The first time there is only ``computing``.

        Raises:
            Unavailable: a server did not answer.
            RetailStreamError: it could not be computed.
        """
        with self._lock:
            age_s = time.time() - self._ended_at
            if not self._computing and not self._stopped and age_s > (ERROR_KEPT_S if self._error else KEPT_S):
                self._computing, self._error = True, None
                threading.Thread(target=self._compute, name="score", daemon=True).start()
            if self._error is not None:
                raise self._error
            return {**self._last, "computing": self._computing}

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _compute(self) -> None:
        found, error = self._last, None
        try:
            found = {**self._run(), "at": time.time()}
        except RetailStreamError as e:
            error = e
        except Exception as e:
            error = RetailStreamError(f"The score could not be computed: {e}.")
        with self._lock:
            self._last, self._error = found, error
            self._computing, self._process, self._ended_at = False, None, time.time()

    def _run(self) -> dict[str, Any]:
        with self._lock:
            if self._stopped:
                raise RetailStreamError("The dashboard stops.")
            process = self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        with process:
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            try:
                out, err = process.communicate(timeout=_LIMIT_S)
            except subprocess.TimeoutExpired as e:
                process.kill()
                raise RetailStreamError(f"The score was not ready after {_LIMIT_S} s.") from e
        if process.returncode == 2:
            raise Unavailable(err.strip().rpartition("\n")[2].removeprefix("retail-stream: "))
        try:
            return json.loads(out)
        except ValueError as e:
            raise RetailStreamError(f"`retail-stream score` ended with {process.returncode} and no result.") from e
