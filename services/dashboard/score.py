"""The score of the planted faults, computed by `retail-stream score` beside us and kept for a while."""

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

from retail_stream.errors import RetailStreamError, Unavailable

KEPT_S = 30.0
_LIMIT_S = 300
_NICE = 15


class Score:
    """One run at a time, however many ask; it reads all topics, so it gives way to everything else."""

    def __init__(self) -> None:
        """Runs nothing yet."""
        self._lock = threading.Lock()
        self._at = 0.0
        self._last: dict[str, Any] = {}

    def get(self) -> dict[str, Any]:
        """What `retail-stream score --json` prints, at most ``KEPT_S`` old, and ``at``: when it was computed.

        Raises:
            Unavailable: a server does not answer.
            RetailStreamError: it could not be computed.
        """
        with self._lock:
            if not self._last or time.time() - self._at > KEPT_S:
                self._last, self._at = _run(), time.time()
            return {**self._last, "at": self._at}


def _run() -> dict[str, Any]:
    argv = [sys.executable, "-m", "retail_stream.cli", "score", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
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
