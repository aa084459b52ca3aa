"""What days of data cost the generator: its memory, its topics, and a restart.

BENCH_DAYS (1,30) days of history are written as fast as possible, on empty topics each; BENCH_SALES_PER_S (0.05) keeps
the sales few, since a restart reads no more than their end. Changes come at the default rate. Memory is what no file
backs: the pages of libraries do not count.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.cleaner.contestants import ROOT
from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import World, world
from commands.embedded.processes import Process
from retail_stream import topics
from retail_stream.entities import JOINED
from retail_stream.topics import Result
from services.generator.settings import CHANGES_PER_S

_PATIENCE_S = 3600.0
_NAMES = [*map(topics.raw, JOINED), Result.STATE]


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes after some days."""

    restart_s: float
    restart_bytes: int
    running_bytes: int
    state_bytes: int


def main() -> int:
    """Print a row for each number of days, and the ratios of the last to the first."""
    costs: list[Cost] = []
    print(f"{'days':>5}{'changes':>12}{'made in s':>11}{'MB running':>12}{'restart s':>11}{'MB':>6}  MB of topics")
    for text in os.environ.get("BENCH_DAYS", "1,30").split(","):
        with world() as w:
            costs.append(_cost(w, float(text)))
    first, last = costs[0], costs[-1]
    say_goal("restart, seconds, last / first", last.restart_s / first.restart_s, "<=", 1.25)
    say_goal("restart, MB", last.restart_bytes / 1e6, "<=", 150)
    say_goal("restart, MB, last / first", last.restart_bytes / first.restart_bytes, "<=", 1.25)
    say_goal("running, MB, last / first", last.running_bytes / first.running_bytes, "<=", 1.25)
    say_goal("generator.state, MB", last.state_bytes / 1e6, "<=", 100)
    return 0


def _cost(w: World, days: float) -> Cost:
    began = time.monotonic()
    changes = int(days * 86_400 * CHANGES_PER_S) * len(JOINED)
    start = datetime.now(UTC) - timedelta(days=days)
    history = {
        "GENERATOR_START_TIME": start.isoformat(),
        "GENERATOR_CHANGES_PER_S": "0",
        "GENERATOR_SALES_PER_S": os.environ.get("BENCH_SALES_PER_S", "0.05"),
    }
    process = _started(w, "first", **history)
    running = 0
    while w.count(*_NAMES[:3]) < changes:
        running = max(running, _own_bytes(process.pid))
        if process.poll() is not None or time.monotonic() - began > _PATIENCE_S:
            raise SystemExit(f"the history was not written: {process.last_lines()}")
        time.sleep(0.2)
    made = time.monotonic() - began
    process.terminate()
    process.wait(60)
    began = time.monotonic()
    again = _started(w, "again")
    while "generator starts" not in _events(w.folder / "again.log"):
        time.sleep(0.01)
    restart, memory = time.monotonic() - began, _own_bytes(again.pid)
    again.terminate()
    again.wait(60)
    sizes = {name: _bytes(w, name) for name in _NAMES}
    listed = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in sizes.items())
    row = f"{days:>5g}{changes:>12,}{made:>11.0f}{running / 1e6:>12.0f}{restart:>11.2f}{memory / 1e6:>6.0f}  {listed}"
    print(row, flush=True)
    return Cost(restart, memory, running, sizes[Result.STATE])


def _started(w: World, name: str, **env: str) -> Process:
    variables = {**os.environ, **w.env, "METRICS_PORT": "0", "LOG_FORMAT": "json", **env}
    command = [sys.executable, "-m", "services.generator"]
    return w.processes.spawn(name, command, env=variables, log=w.folder / f"{name}.log", cwd=ROOT)


def _events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines()] if log.exists() else []


def _own_bytes(pid: int) -> int:
    """Memory of a process that no file backs."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def _bytes(w: World, topic: str) -> int:
    """Bytes of a topic's segments on the broker's disk."""
    return sum(f.stat().st_size for f in (w.folder / "state" / "kafka" / "data").glob(f"{topic}-*/*.log"))
