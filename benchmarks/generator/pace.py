"""Whether set rates are kept over a minute, by the broker's own clock, with a burst in each half minute.

The lines of a basket come together, so a minute may hold one basket more or less.

BENCH_SECONDS (60) says over how long; rates are BENCH_SALES_PER_S (1,100,5000,20000).
"""

import os
import sys
import time

import numpy as np
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from benchmarks.cleaner.contestants import ROOT
from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import SALES, World, world
from retail_stream.kafka.reading import read_to_end
from services.generator.timing.baskets import MOST_LINES

_PATIENCE_S = 120.0


def main() -> int:
    """Print, per rate, how far the count of the minute is off; 0 whether or not the goals were reached."""
    seconds = float(os.environ.get("BENCH_SECONDS", "60"))
    for text in os.environ.get("BENCH_SALES_PER_S", "1,100,5000,20000").split(","):
        rate = float(text)
        with world() as w:
            times = _appended(w, rate, seconds)
        within = int(np.searchsorted(times, times[0] + seconds * 1000))
        busiest = np.bincount(((times[:within] - times[0]) // 1000).astype(int)).max()
        print(f"{rate:,.0f}/s: {within:,} sales in {seconds:.0f} s, {busiest:,} of them in the busiest second")
        off = max(0, abs(within - rate * seconds) - MOST_LINES) / (rate * seconds)
        say_goal(f"{rate:,.0f}/s: off by more than a basket, percent", off * 100, "<=", 2)
    return 0


def _appended(w: World, rate: float, seconds: float) -> np.ndarray:
    """When the broker appended each sale, in milliseconds, ascending."""
    # Time stamps are then the broker's, not the generator's.
    entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, SALES, incremental_configs=[entry])
    for changed in w.admin.incremental_alter_configs([topic]).values():
        changed.result(30)
    env = {"GENERATOR_SALES_PER_S": str(rate), "GENERATOR_FAULT_BURST": "1", "METRICS_PORT": "0"}
    command = [sys.executable, "-m", "services.generator"]
    process = w.processes.spawn(
        "generator", command, env={**os.environ, **w.env, **env}, log=w.folder / "log", cwd=ROOT
    )
    deadline = time.monotonic() + _PATIENCE_S
    while not w.count(SALES):
        if time.monotonic() > deadline:
            raise SystemExit(f"no sale within {_PATIENCE_S:.0f} s: {process.last_lines()}")
        time.sleep(0.05)
    time.sleep(seconds + 1)
    process.terminate()
    process.wait(30)
    return np.sort(np.fromiter((m.timestamp()[1] for m in read_to_end(w.connections, SALES)), np.int64))
