"""The cost of the dashboard: the aggregator's rate while the dashboard runs, and while it is suspended.

One run over one backlog, in turns of a few seconds, with the page open all the time.
BENCH_RECORDS (4,000,000) is the backlog, BENCH_SECONDS (4) the length of a turn.
"""

import itertools
import os
import signal
import statistics
import sys
import threading
import time
import urllib.request

from sqlalchemy import Engine, text

from benchmarks.cleaner.running import cpu_seconds, running, say_goal
from benchmarks.cleaner.world import World, world
from benchmarks.windows.contestants import ENTRANTS, OURS
from benchmarks.windows.stream import fill
from commands.embedded.processes import Process
from commands.embedded.settings import free_ports
from retail_stream.warehouse import postgres

_GOAL = 0.97
_WARM_S = 5.0


def main() -> int:
    """Print the rate beside the dashboard / the rate without it, and the processors that the dashboard uses."""
    records = int(os.environ.get("BENCH_RECORDS", "4000000"))
    turn_s = float(os.environ.get("BENCH_SECONDS", "4"))
    with world() as w:
        fill(w, records)
        engine = postgres.engine(w.connections.database_url)
        page = _dashboard(w)
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
    print(f"dashboard: {busy:.3f} processors while it runs")
    say_goal(
        "rate beside the dashboard / without (medians)",
        statistics.median(rates[True]) / statistics.median(rates[False]),
        ">=",
        _GOAL,
    )
    return 0


def _dashboard(w: World) -> Process:
    """Start the dashboard, and keep its page open."""
    port = free_ports(1)[0]
    env = {**os.environ, **w.env, "DASHBOARD_PORT": str(port)}
    log = w.folder / "dashboard.log"
    process = w.processes.spawn("dashboard", [sys.executable, "-m", "commands.dashboard"], log=log, env=env)

    def read() -> None:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/live") as stream:
                    while stream.read(4096):
                        pass
            except OSError:
                time.sleep(0.1)

    threading.Thread(target=read, daemon=True).start()
    return process


def _turns(engine: Engine, page: Process, records: int, turn_s: float) -> tuple[dict[bool, list[float]], float]:
    """Rates by whether the dashboard runs, and the processors that it uses while it runs."""
    position = text("SELECT coalesce(sum(next_offset), 0) FROM consumer_positions WHERE consumer_group = 'aggregator'")

    def passed() -> int:
        with engine.connect() as connection:
            return int(connection.execute(position).scalar_one())

    rates: dict[bool, list[float]] = {True: [], False: []}
    used = 0.0
    while passed() == 0:
        time.sleep(0.2)
    time.sleep(_WARM_S)
    for runs in itertools.cycle((True, False)):
        os.kill(page.pid, signal.SIGCONT if runs else signal.SIGSTOP)
        began, before, cpu = time.monotonic(), passed(), cpu_seconds([page.pid])
        time.sleep(turn_s)
        ended, after = time.monotonic(), passed()
        if after >= records:
            break
        rates[runs].append((after - before) / (ended - began))
        used += (cpu_seconds([page.pid]) - cpu) * runs
    os.kill(page.pid, signal.SIGCONT)
    return rates, used / (turn_s * max(1, len(rates[True])))


if __name__ == "__main__":
    sys.exit(main())
