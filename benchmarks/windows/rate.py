"""Rate and CPU of the aggregator and of other engines at windows on the same topic.

BENCH_RECORDS (3,000,000), BENCH_ROUNDS (2) and BENCH_ONLY (ours,streams,flink,quix) say how much.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import TopicPartition

from benchmarks.cleaner.contestants import Contestant, Missing
from benchmarks.cleaner.running import check, cpu_seconds, machine_seconds, running, say_goal
from benchmarks.cleaner.world import CLEAN, PARTITIONS, World, world
from benchmarks.windows.contestants import ENTRANTS, FLINK, OURS, QUIX, STREAMS
from benchmarks.windows.stream import Truth, fill
from retail_stream.kafka import clients

#: It would take too long for all records; its rate is as steady over fewer.
_FEWER = {QUIX: 600_000}
_BEGIN, _END = 0.15, 0.95
_LOOK_EVERY_S = 0.1
_PATIENCE_S = 300.0
_SETTLED_S = 3.0
_RATES = ((OURS, QUIX, 10), (OURS, STREAMS, 1.5), (OURS, FLINK, 1.3))
_COSTS = ((OURS, STREAMS, 0.4), (OURS, FLINK, 0.5))


@dataclass(frozen=True)
class Look:
    """At one moment: records so far; CPU-seconds so far of contestant, servers and all others."""

    time: float
    done: int
    cpu: float
    servers: float
    others: float


@dataclass(frozen=True)
class Run:
    """Over the steady part: records/s; CPU-seconds per million records of the contestant and of broker and Postgres.

    ``others``: processors that were busy with something else. ``wrong``: windows that are not as they should be.
    """

    rate: float
    cpu: float
    servers: float
    others: float
    wrong: int | None


def main() -> int:
    """Print the table and the ratios; 0 whether or not the goals were reached, which is said."""
    records = int(os.environ.get("BENCH_RECORDS", "3000000"))
    names = os.environ.get("BENCH_ONLY", ",".join(ENTRANTS)).split(",")
    if unknown := sorted(set(names) - set(ENTRANTS)):
        print(f"BENCH_ONLY has {unknown[0]!r}; allowed: {', '.join(ENTRANTS)}.", file=sys.stderr)
        return 2
    best: dict[str, Run] = {}
    print(f"\n{records:,} sales; Quix Streams {_FEWER[QUIX]:,}")
    print(f"{'':<26}{'records/s':>12}{'CPU-s/million':>15}{'servers CPU-s':>15}{'other CPUs':>12}  wrong windows")
    for _ in range(int(os.environ.get("BENCH_ROUNDS", "2"))):
        # Positions and sums are kept: each round has servers of its own.
        with world() as w:
            truth = fill(w, records)
            for name in names:
                try:
                    run = measured(w, name, ENTRANTS[name].contestant(w), records, truth, FACT_SALES="off")
                except Missing as e:
                    print(f"{ENTRANTS[name].title}: not measured, {e}")
                    continue
                best[name] = max(run, best.get(name, run), key=lambda r: r.rate)
    print("\nratios of the best rounds")
    _ratios(best)
    return 0


def _ratios(best: Mapping[str, Run]) -> None:
    for one, other, goal in _RATES:
        if one in best and other in best:
            what = f"rate: {ENTRANTS[one].title} / {ENTRANTS[other].title}"
            say_goal(what, best[one].rate / best[other].rate, ">=", goal)
    for one, other, goal in _COSTS:
        if one in best and other in best:
            what = f"CPU per record: {ENTRANTS[one].title} / {ENTRANTS[other].title}"
            say_goal(what, best[one].cpu / best[other].cpu, "<=", goal)


def measured(w: World, name: str, who: Contestant, records: int, truth: Truth, **env: str) -> Run:
    """One run, printed. ``env``: more variables for the contestant."""
    fewer = min(records, _FEWER.get(name, records))
    asking = clients.consumer(w.connections, who.group)
    # A sale is done when it is for stores and for products.
    ways = [
        [TopicPartition(topic, p) for p in range(PARTITIONS)]
        for topic in (CLEAN, ENTRANTS[name].again)
        if topic is not None
    ]
    with running(w, who, **env) as started:
        pids = [p.pid for p in started]

        def wait(count: float) -> Look:
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline:
                check(started)
                done = min(sum(max(0, tp.offset) for tp in asking.committed(way, timeout=10)) for way in ways)
                now = time.monotonic()
                if done >= count:
                    cpu, servers = cpu_seconds(pids), cpu_seconds([w.broker, *postgres_processes()])
                    return Look(now, done, cpu, servers, machine_seconds() - cpu - servers - cpu_seconds([os.getpid()]))
                time.sleep(_LOOK_EVERY_S)
            raise TimeoutError(f"{who.name} did not get far in {_PATIENCE_S:.0f} s: {started[0].last_lines()}")

        begin, end = wait(_BEGIN * fewer), wait(_END * fewer)
        if fewer == records:
            wait(records)
            _settle(w, who)
    asking.close()
    done, took = end.done - begin.done, end.time - begin.time
    if not done:
        raise SystemExit(f"{records:,} sales are too few to measure {ENTRANTS[name].title} by: raise BENCH_RECORDS.")
    run = Run(
        rate=done / took,
        cpu=(end.cpu - begin.cpu) / done * 1e6,
        servers=(end.servers - begin.servers) / done * 1e6,
        others=(end.others - begin.others) / took,
        wrong=truth.differs(ENTRANTS[name].found(w)) if fewer == records else None,
    )
    figures = f"{run.rate:>12,.0f}{run.cpu:>15.2f}{run.servers:>15.2f}{run.others:>12.2f}"
    wrong = "not looked at" if run.wrong is None else f"{run.wrong} of {len(truth.counts)}"
    print(f"{ENTRANTS[name].title:<26}{figures}  {wrong}", flush=True)
    return run


def _settle(w: World, who: Contestant) -> None:
    """Wait until nothing comes out any more."""
    known, since = -1, time.monotonic()
    while time.monotonic() < since + _SETTLED_S:
        if (count := w.count(*who.outputs)) != known:
            known, since = count, time.monotonic()
        time.sleep(_LOOK_EVERY_S)


def postgres_processes() -> list[int]:
    """Every server process of Postgres on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == "postgres":
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
