"""The cost of the dashboard with BENCH_PAGES (50) open pages: of the aggregator's rate, and in memory over time.

`dashboard` is one run over one backlog, in turns of a few seconds in which the dashboard runs or is suspended.
BENCH_RECORDS (4,000,000) is the backlog, BENCH_SECONDS (4) the least length of a turn.

`dashboard-memory` is a pipeline at its usual rates for BENCH_SECONDS (3,600).
"""

import itertools
import os
import signal
import statistics
import sys
import time

from sqlalchemy import Engine, text

from benchmarks.cleaner.running import cpu_seconds, resident_bytes, running, say_goal
from benchmarks.cleaner.world import World, world
from benchmarks.pages import Pages
from benchmarks.windows.contestants import ENTRANTS, OURS
from benchmarks.windows.stream import fill
from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import Process
from commands.embedded.settings import free_ports
from retail_stream.warehouse import postgres

_GOAL, _MEMORY_GOAL = 0.97, 1.05
_WARM_S = 5.0
#: Of the run for memory: seconds until the caches are full, trends of ten minutes included, and between two samples.
_FILLED_S, _EVERY_S = 660.0, 5.0
_MIB = 2**20


def main() -> int:
    """Print the rate beside the dashboard / the rate without it, and the processors that the dashboard uses."""
    records = int(os.environ.get("BENCH_RECORDS", "4000000"))
    turn_s = float(os.environ.get("BENCH_SECONDS", "4"))
    with world() as w:
        fill(w, records)
        engine = postgres.engine(w.connections.database_url)
        page, pages = _dashboard(w)
        with running(w, ENTRANTS[OURS].contestant(w), FACT_SALES="on"):
            rates, busy = _turns(engine, page, records, turn_s)
        engine.dispose()
    if min(map(len, rates.values())) < 2:
        print(f"dashboard: {records:,} records were read before two turns of each kind; set a larger BENCH_RECORDS")
        return 1
    for runs, some in rates.items():
        print(
            f"{'beside the dashboard' if runs else 'without':<22}" + " ".join(f"{r:>9,.0f}" for r in some) + "  sales/s"
        )
    print(
        f"dashboard: {busy:.3f} processors while it runs, "
        f"for {pages.number} pages that read {pages.snapshots:,} snapshots"
    )
    print(f"the pages themselves used {pages.cpu_s:.1f} s of a processor, which is in the rate, too")
    say_goal(
        "rate beside the dashboard / without (medians)",
        statistics.median(rates[True]) / statistics.median(rates[False]),
        ">=",
        _GOAL,
    )
    return 0


def memory() -> int:
    """Print the dashboard's resident memory at the start, in the middle and at the end of a run."""
    seconds = float(os.environ.get("BENCH_SECONDS", "3600"))
    with world() as w:
        pipeline = Pipeline(w.processes, w.env, w.folder / "logs")
        for service in Service:
            pipeline.start(service)
        page, pages = _dashboard(w)
        began = time.monotonic()
        samples: list[int] = []
        while time.monotonic() - began < seconds:
            time.sleep(_EVERY_S)
            samples.append(resident_bytes(page.pid))
        if dead := pipeline.dead():
            print(f"dashboard-memory: {dead} ended by itself; see {pipeline.logs}.")
            return 1
    some = max(1, len(samples) // 20)
    first = min(len(samples) - some, int(min(_FILLED_S, seconds / 3) / _EVERY_S))
    start, middle, end = (
        statistics.median(samples[at : at + some]) for at in (first, (first + len(samples)) // 2, len(samples) - some)
    )
    print(
        f"dashboard with {pages.number} pages, {pages.snapshots:,} snapshots read: {start / _MIB:.1f} MiB after "
        f"{(first + some) * _EVERY_S:,.0f} s, {middle / _MIB:.1f} in the middle, {end / _MIB:.1f} after "
        f"{seconds:,.0f} s; at most {max(samples) / _MIB:.1f}"
    )
    say_goal("memory at the end / at the start", end / start, "<=", _MEMORY_GOAL)
    return 0


def _dashboard(w: World) -> tuple[Process, Pages]:
    """Start the dashboard, and open its pages."""
    port = free_ports(1)[0]
    env = {**os.environ, **w.env, "DASHBOARD_PORT": str(port)}
    log = w.folder / "dashboard.log"
    process = w.processes.spawn("dashboard", [sys.executable, "-m", "commands.dashboard"], log=log, env=env)
    return process, Pages(f"http://127.0.0.1:{port}", int(os.environ.get("BENCH_PAGES", "50")))


def _turns(engine: Engine, page: Process, records: int, turn_s: float) -> tuple[dict[bool, list[float]], float]:
    """Rates by whether the dashboard runs, and the processors that it uses while it runs."""
    position = text("SELECT coalesce(sum(next_offset), 0) FROM consumer_positions WHERE consumer_group = 'aggregator'")

    def passed() -> int:
        with engine.connect() as connection:
            return int(connection.execute(position).scalar_one())

    def moved() -> tuple[float, int]:
        """When the next transaction is done, and up to where. It has the sales of seconds, so turns begin there."""
        was = passed()
        while (now := passed()) == was < records:
            time.sleep(0.02)
        return time.monotonic(), now

    rates: dict[bool, list[float]] = {True: [], False: []}
    used = lasted = 0.0
    while passed() == 0:
        time.sleep(0.2)
    time.sleep(_WARM_S)
    for runs in itertools.cycle((True, False)):
        os.kill(page.pid, signal.SIGCONT if runs else signal.SIGSTOP)
        began, before = moved()
        cpu = cpu_seconds([page.pid])
        time.sleep(turn_s)
        ended, after = moved()
        # At the end of the backlog transactions are small.
        if after >= records:
            break
        rates[runs].append((after - before) / (ended - began))
        used += (cpu_seconds([page.pid]) - cpu) * runs
        lasted += (ended - began) * runs
    os.kill(page.pid, signal.SIGCONT)
    return rates, used / max(lasted, turn_s)


if __name__ == "__main__":
    sys.exit(main())
