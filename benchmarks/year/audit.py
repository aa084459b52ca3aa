"""`verify` over more and more sales: records/s, and its memory.

BENCH_RECORDS (250000,1000000) says how many sales each stream has; sales and changes come as fast as they can. A record
is one that `verify` reads from a topic.
"""

import os
import subprocess
import sys
import time

from benchmarks.cleaner.contestants import ROOT
from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import World, world
from benchmarks.year import drained
from commands.audit.reading import ends
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.topics import Result

_NAMES = [*(f(e) for e in Entity for f in (topics.raw, topics.clean, topics.dlq))]
_NAMES += [Result.LATE, Result.WINDOWS, Result.WATERMARKS]


def main() -> int:
    """Print a row for each size, and the ratio of the last one's rate to the first one's."""
    rates = []
    print(
        f"{'sales':>10}{'records':>12}{'made in s':>11}{'verify s':>10}{'CPU s':>8}{'records/s':>11}{'MiB':>7}",
        flush=True,
    )
    for text in os.environ.get("BENCH_RECORDS", "250000,1000000").split(","):
        with world() as w:
            rates.append(_measured(w, int(text)))
    say_goal("verify, records/s: last / first", rates[-1] / rates[0], ">=", 0.8)
    return 0


def _measured(w: World, sales: int) -> float:
    """Records/s."""
    env = {"GENERATOR_SALES_PER_S": "0", "GENERATOR_CHANGES_PER_S": "50", "GENERATOR_MAX_SALES": str(sales)}
    made = drained.run(w, **env)
    records = sum(ends(w.connections, _NAMES).values())
    log = w.folder / "verify.log"
    began = time.monotonic()
    with log.open("w") as out:
        command = [sys.executable, "-m", "commands.cli", "verify"]
        process = subprocess.Popen(command, env={**os.environ, **w.env}, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    took = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(log.read_text())
    cpu = used.ru_utime + used.ru_stime
    figures = f"{took:>10.0f}{cpu:>8.0f}{records / took:>11,.0f}{used.ru_maxrss / 1024:>7,.0f}"
    print(f"{sales:>10,}{records:>12,}{made:>11.0f}{figures}", flush=True)
    return records / took
