"""Whether the cleaner's memory stays flat: over 5,000,000 records, and with brokers that take its output slowly.

BENCH_RECORDS (5,200,000) and BENCH_SECONDS (60, with the output throttled) say how much.
"""

import math
import os
import statistics
import subprocess
import time

from benchmarks.cleaner.contestants import OURS, Contestant, contestant
from benchmarks.cleaner.running import check, resident_bytes, running, say_goal
from benchmarks.cleaner.sales import fill
from benchmarks.cleaner.world import World, world
from commands.embedded import java
from commands.embedded.programs import install
from commands.embedded.settings import EmbeddedSettings

_GOAL = 0.10
_WARM = 0.10
_EVERY_S = 0.5
# About a tenth of what it writes at full speed.
_THROTTLE_BYTES_PER_S = 2_000_000
_MIB = 2**20

#: (records done, resident bytes)
Sample = tuple[int, int]


def main() -> int:
    """Print how far resident memory strays from its median after the first tenth of the records, in both runs."""
    records = int(os.environ.get("BENCH_RECORDS", "5200000"))
    seconds = float(os.environ.get("BENCH_SECONDS", "60"))
    with world() as w:
        fill(w, records)
        who = contestant(OURS, w)
        _tell("at full speed", _watch(w, who, records, math.inf))
        _throttle(w, f"producer_byte_rate={_THROTTLE_BYTES_PER_S}")
        _tell("output throttled", _watch(w, who, records, seconds))
    return 0


def _watch(w: World, who: Contestant, records: int, seconds: float) -> list[Sample]:
    """Samples twice a second, until so many records or seconds after the first record."""
    before = w.count(*who.outputs)
    samples: list[Sample] = []
    with running(w, who) as started:
        while (done := w.count(*who.outputs) - before) == 0:
            check(started)
            time.sleep(0.05)
        deadline = time.monotonic() + seconds
        while done < records and time.monotonic() < deadline:
            check(started)
            samples.append((done, resident_bytes(started[0].pid)))
            time.sleep(_EVERY_S)
            done = w.count(*who.outputs) - before
    return samples


def _tell(what: str, samples: list[Sample]) -> None:
    total = samples[-1][0]
    warm = [size for done, size in samples if done >= _WARM * total]
    least, middle, most = min(warm), statistics.median(warm), max(warm)
    sizes = f"median {middle / _MIB:,.0f} MiB, least {least / _MIB:,.0f}, most {most / _MIB:,.0f}"
    print(f"\nmemory, {what}: {total:,} records, {len(warm)} samples: {sizes}")
    say_goal(f"memory, {what}: farthest from the median", max(most - middle, middle - least) / middle, "<=", _GOAL)


def _throttle(w: World, quota: str) -> None:
    """A quota for all clients, by Kafka's own tool."""
    programs = install(EmbeddedSettings().cache, print)
    command = [str(java.java()), "-cp", java.class_path(programs.kafka), "kafka.admin.ConfigCommand"]
    command += ["--bootstrap-server", w.connections.kafka_bootstrap_servers, "--alter", "--add-config", quota]
    subprocess.run([*command, "--entity-type", "clients", "--entity-default"], check=True, capture_output=True)
