"""Sales per second of the generator, of a bare loop and of Kafka's ProducerPerformance, on one broker, in turn.

BENCH_RECORDS (2,000,000) and BENCH_ROUNDS (3) say how much.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka.admin import NewTopic

from benchmarks.cleaner.contestants import ROOT
from benchmarks.cleaner.running import cpu_seconds, machine_seconds, resident_bytes, say_goal
from benchmarks.cleaner.world import PARTITIONS, SALES, World, world
from commands.embedded import java
from commands.embedded.programs import install
from commands.embedded.settings import EmbeddedSettings
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.topics import Result

BRIEF, HOSTILE, BARE, JAVA = "generator", "generator, hostile", "bare fastavro loop", "ProducerPerformance"
# The steady part, as shares of the records: without start and end.
_BEGIN, _END = 0.15, 0.95
_LOOK_EVERY_S = 0.05
_PATIENCE_S = 300.0
_RECORD_BYTES = 100


@dataclass(frozen=True)
class Look:
    """At one moment: records so far; CPU-seconds so far of the contestant, the broker and the whole machine."""

    time: float
    done: int
    cpu: float
    broker: float
    machine: float


def main() -> int:
    """Print the table and the ratios; 0 whether or not the goals were reached, which is said."""
    records = int(os.environ.get("BENCH_RECORDS", "2000000"))
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    best: dict[str, float] = {}
    print(f"{records:,} records each, {rounds} rounds in turn")
    print(f"{'':<22}{'records/s':>12}{'CPU-s/million':>15}{'broker CPU-s':>14}{'other CPUs':>12}{'MB':>7}")
    with world() as w:
        for number in range(rounds):
            for name, contest in _contestants(w, records, number).items():
                topic, command, env = contest
                rate, figures = _run(w, name, topic, command, env, records)
                best[name] = max(rate, best.get(name, rate))
                print(f"{name:<22}{rate:>12,.0f}{figures}", flush=True)
        entries = w.count(Result.FAULTS)
    print(f"\nthe ledger has {entries:,} entries and markers of {2 * rounds * records:,} sales\nbest rounds")
    say_goal("generator, sales/s", best[BRIEF], ">=", 100_000)
    say_goal("generator / bare fastavro loop", best[BRIEF] / best[BARE], ">=", 0.67)
    say_goal("generator, hostile / bare fastavro loop", best[HOSTILE] / best[BARE], ">=", 0.5)
    print(
        f"{'generator / ProducerPerformance of ' + str(_RECORD_BYTES) + ' bytes':<66}{best[BRIEF] / best[JAVA]:>8.2f}"
    )
    return 0


def _contestants(w: World, records: int, number: int) -> dict[str, tuple[str, Sequence[str], dict[str, str]]]:
    """Name → topic, command, variables; the peers' topics are made here."""
    bare, perf = f"bare.{number}", f"perf.{number}"
    for made in w.admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (bare, perf)]).values():
        made.result(30)
    servers = w.connections.kafka_bootstrap_servers
    fast = {"GENERATOR_SALES_PER_S": "0", "GENERATOR_MAX_SALES": str(records), "METRICS_PORT": "0"}
    ours = [sys.executable, "-m", "services.generator"]
    programs = install(EmbeddedSettings().cache, print)
    kafkas = [
        *(str(java.java()), "-Xmx512m", "-cp", java.class_path(programs.kafka)),
        *("org.apache.kafka.tools.ProducerPerformance", "--topic", perf, "--num-records", str(2 * records)),
        *("--record-size", str(_RECORD_BYTES), "--throughput", "-1"),
        *("--command-property", f"bootstrap.servers={servers}", "acks=all", "compression.type=lz4", "linger.ms=10"),
    ]
    return {
        BRIEF: (SALES, ours, fast),
        HOSTILE: (SALES, ours, {**fast, "GENERATOR_PROFILE": "hostile"}),
        BARE: (bare, [sys.executable, "-m", "benchmarks.peers.bare_generator", servers, bare, str(records)], {}),
        JAVA: (perf, kafkas, {}),
    }


def _run(
    w: World, name: str, topic: str, command: Sequence[str], env: dict[str, str], records: int
) -> tuple[float, str]:
    """Records per second over the steady part, and the other columns."""
    started = sum(end_offsets(w.connections, topic_partitions(w.connections, topic)).values())
    wanted, memory = 2 * records if name == JAVA else records, 0
    log = w.folder / f"{name}.log"
    process = w.processes.spawn(name, command, env={**os.environ, **w.env, **env}, log=log, cwd=ROOT)

    def look() -> Look:
        nonlocal memory
        done = sum(end_offsets(w.connections, [(topic, p) for p in range(PARTITIONS)]).values()) - started
        cpu = cpu_seconds([process.pid])
        memory = max(memory, resident_bytes(process.pid))
        return Look(time.monotonic(), done, cpu, cpu_seconds([w.broker]), machine_seconds())

    try:
        begin = _when(look, lambda at: at.done >= _BEGIN * wanted)
        end = _when(look, lambda at: at.done >= _END * wanted)
        process.wait(_PATIENCE_S)
    finally:
        process.kill()
    done, took = end.done - begin.done, end.time - begin.time
    cpu, broker = end.cpu - begin.cpu, end.broker - begin.broker
    others = (end.machine - begin.machine - cpu - broker) / took
    return done / took, f"{cpu / done * 1e6:>15.2f}{broker / done * 1e6:>14.2f}{others:>12.2f}{memory / 1e6:>7.0f}"


def _when(look: Callable[[], Look], reached: Callable[[Look], bool]) -> Look:
    deadline = time.monotonic() + _PATIENCE_S
    while not reached(at := look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{at.done:,} records after {_PATIENCE_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)
    return at
