"""Rate and CPU of the cleaner and of other engines at the same job on the same topic, and the trail of its commits.

BENCH_RECORDS (4,000,000), BENCH_SLOW_RECORDS (150,000, for Faust), BENCH_ROUNDS (3) and
BENCH_ONLY (ours,ours2,bare,streams,streams2,quix,faust) say how much.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.cleaner.audit import lost
from benchmarks.cleaner.contestants import (
    BARE,
    FAUST,
    NAMES,
    OURS,
    OURS_TWO,
    QUIX,
    STREAMS,
    STREAMS_TWO,
    Contestant,
    Missing,
    contestant,
    title,
)
from benchmarks.cleaner.running import check, cpu_seconds, machine_seconds, running, say_goal
from benchmarks.cleaner.sales import fill
from benchmarks.cleaner.trail import trail
from benchmarks.cleaner.world import World, world

#: Those that would take too long for all records; their rate is as steady over fewer.
_FEWER = {FAUST: int(os.environ.get("BENCH_SLOW_RECORDS", "150000")), QUIX: 600_000}
# The steady part, as shares of the records: without start and end.
_BEGIN, _END = 0.15, 0.95
_LOOK_EVERY_S = 0.1
#: CPUs that others may take before a ratio says little.
_QUIET = 0.2
_PATIENCE_S = 300.0
_RATES = (
    (OURS, QUIX, 15),
    (OURS, FAUST, 40),
    (OURS, BARE, 1.8),
    (OURS, STREAMS_TWO, 1.8),
    (OURS_TWO, STREAMS_TWO, 1.8),
)
_COSTS = ((OURS, STREAMS, 0.4), (OURS, STREAMS_TWO, 0.4))


@dataclass(frozen=True)
class Look:
    """At one moment: CPU-seconds so far of contestant, broker and all others; records so far, dead ones of them.

    All others: without this program, which looks.
    """

    time: float
    cpu: float
    broker: float
    others: float
    done: int
    dead: int


@dataclass(frozen=True)
class Run:
    """Over the steady part: records/s; CPU-seconds per million records, also the broker's; the share of dead letters.

    ``others``: processors that were busy with something else, which is what makes a run doubtful. ``lost``: what clean
    records lost.
    """

    rate: float
    cpu: float
    broker: float
    others: float
    dead: float
    lost: list[str]

    @classmethod
    def between(cls, begin: Look, end: Look, lost: list[str]) -> "Run":
        """The run whose steady part lies between two looks."""
        done, took = end.done - begin.done, end.time - begin.time
        return cls(
            rate=done / took,
            cpu=(end.cpu - begin.cpu) / done * 1e6,
            broker=(end.broker - begin.broker) / done * 1e6,
            others=(end.others - begin.others) / took,
            dead=(end.dead - begin.dead) / done,
            lost=lost,
        )


def main() -> int:
    """Print the table, the ratios and the trail; 0 whether or not the goals were reached, which is said."""
    records = int(os.environ.get("BENCH_RECORDS", "4000000"))
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    names = os.environ.get("BENCH_ONLY", ",".join(NAMES)).split(",")
    if unknown := sorted(set(names) - set(NAMES)):
        print(f"BENCH_ONLY has {unknown[0]!r}; allowed: {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    with world() as w:
        fill(w, records)
        taking: dict[str, Contestant] = {}
        for name in names:
            try:
                taking[name] = contestant(name, w)
            except Missing as e:
                print(f"{title(name)}: not measured, {e}")
        _ratios(_table(w, taking, records, rounds))
        if OURS in taking:
            trail(w, taking[OURS])
    return 0


def _table(w: World, taking: Mapping[str, Contestant], records: int, rounds: int) -> dict[str, Run]:
    """Run all in turn, and again; print each run and return the fastest of each.

    The fastest: whatever else the machine does at the time only slows a run down. A peer with one run would be at the
    mercy of that moment, and we would look good for it.
    """
    print(f"\n{records:,} sales, {rounds} rounds in turn" + "".join(f"; {title(n)} {c:,}" for n, c in _FEWER.items()))
    print(f"{'':<26}{'records/s':>12}{'CPU-s/million':>15}{'broker CPU-s':>14}{'other CPUs':>12}{'dead':>7}  lost")
    best: dict[str, Run] = {}
    for _ in range(rounds):
        for name, who in taking.items():
            run = _run(w, who, min(records, _FEWER.get(name, records)))
            best[name] = max(run, best.get(name, run), key=lambda r: r.rate)
            figures = f"{run.rate:>12,.0f}{run.cpu:>15.2f}{run.broker:>14.2f}{run.others:>12.2f}{run.dead:>7.1%}"
            print(f"{title(name):<26}{figures}  {', '.join(run.lost) or 'nothing'}", flush=True)
    return best


def _ratios(best: Mapping[str, Run]) -> None:
    disturbed = [title(name) for name, run in best.items() if run.others > _QUIET]
    print("\nratios of the best rounds")
    if disturbed:
        print(f"DOUBTFUL: something else took more than {_QUIET:g} CPUs even then from: {', '.join(disturbed)}")
    for one, other, goal in _RATES:
        if one in best and other in best:
            say_goal(f"rate: {title(one)} / {title(other)}", best[one].rate / best[other].rate, ">=", goal)
    for one, other, goal in _COSTS:
        if one in best and other in best:
            say_goal(f"CPU per record: {title(one)} / {title(other)}", best[one].cpu / best[other].cpu, "<=", goal)


def _run(w: World, who: Contestant, records: int) -> Run:
    clean, dead = who.outputs
    before = w.count(clean), w.count(dead)
    with running(w, who) as started:
        pids = [p.pid for p in started]

        def look(clean: int, dead: int) -> Look:
            cpu, broker, watching = (cpu_seconds(p) for p in (pids, [w.broker], [os.getpid()]))
            others = machine_seconds() - cpu - broker - watching
            return Look(time.monotonic(), cpu, broker, others, clean + dead, dead)

        def wait(share: float) -> Look:
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline:
                check(started)
                new = w.count(clean) - before[0], w.count(dead) - before[1]
                if sum(new) >= share * records:
                    return look(*new)
                time.sleep(_LOOK_EVERY_S)
            raise TimeoutError(f"{who.name} did not get far in {_PATIENCE_S:.0f} s: {started[0].last_lines()}")

        begin, end = wait(_BEGIN), wait(_END)
    return Run.between(begin, end, lost(w, clean))
