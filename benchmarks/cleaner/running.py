"""Contestants as processes: started, looked at, stopped."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.cleaner.contestants import ROOT, Contestant
from benchmarks.cleaner.world import World
from commands.embedded.processes import Process

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_S = 20.0


class Stopped(Exception):
    """A contestant ended by itself."""


@contextmanager
def running(w: World, who: Contestant, **env: str) -> Iterator[list[Process]]:
    """The contestant's processes, reading from the beginning; stopped at the end. ``env``: more variables."""
    w.rewind(who.group)
    with going_on(w, who, **env) as started:
        yield started


@contextmanager
def going_on(w: World, who: Contestant, **env: str) -> Iterator[list[Process]]:
    """As `running`, from where its group is."""
    log = w.folder / f"{who.group}.log"
    # Ours would fall back to a free port for a second process; so both ask for one.
    variables = {**os.environ, **w.env, "METRICS_PORT": "0", "PYTHONPATH": str(ROOT), **env}
    started = [w.processes.spawn(who.name, c, log=log, env=variables, cwd=ROOT) for c in who.commands]
    try:
        yield started
    finally:
        for process in started:
            process.terminate()
        deadline = time.monotonic() + _STOP_S
        while any(p.poll() is None for p in started) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in started:
            process.kill()


def check(started: Iterable[Process]) -> None:
    """Raise `Stopped` when one of them runs no more."""
    for process in started:
        if process.poll() is not None:
            raise Stopped(f"{process.name} ended with {process.poll()}: {process.last_lines()}")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes, each with all its threads and the children it has waited for."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / _TICKS


def machine_seconds() -> float:
    """Time that all processors of the machine were busy with anything, or taken away by a hypervisor."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory that a process has in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def say_goal(what: str, figure: float, sign: str, goal: float) -> None:
    """One line: the figure, the goal (``>=`` or ``<=``) and whether it was reached."""
    reached = figure >= goal if sign == ">=" else figure <= goal
    print(f"{what:<66}{figure:>8.2f}   goal {sign} {goal:g}   {'reached' if reached else 'NOT reached'}", flush=True)
