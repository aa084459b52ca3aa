"""What a third entry of `schemas/windows.toml` costs, beside the two that are always there.

The first entry costs what an aggregator with stores only needs, reading and decoding included. A further one costs what
the aggregator needs with it, less what it needs without it. Cost is CPU time, of the aggregator and of the servers.
BENCH_RECORDS (4,000,000) says how many sales, BENCH_ROUNDS (1) how often each is measured. With a row for almost each
sale it is an eighth of them, once, on servers of its own: a run reads the results of those before it.
"""

import os
import sys
from collections.abc import Mapping

from benchmarks.cleaner.contestants import Contestant
from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import CLEAN, PARTITIONS, World, world
from benchmarks.windows.contestants import OURS
from benchmarks.windows.rate import Run, measured
from benchmarks.windows.stream import STORES, Truth, fill
from commands import rebuild
from retail_stream.topics import Group
from services.aggregator import declared

_FIRST, _USUAL, _SAME, _ONE = "stores only", "stores and products", "by store again", "by payment"
_LONG, _SHORT, _MANY = "sessions by store", "sessions by product", "by customer"
_ENTRIES = {
    _FIRST: "",
    _USUAL: "",
    _SAME: "[third]\nby = 'store_id'",
    _ONE: "[third]\nby = 'payment_method'",
    # A store has a sale each 0.08 s, a product each 0.4 s: sessions without end, and of some 12 sales.
    _LONG: "[third]\nby = 'store_id'\nsession = '30s'",
    _SHORT: "[third]\nby = 'product_id'\nsession = '1s'",
}
_ROW_EACH = "[third]\nby = 'customer_id'"
_GOAL = 0.5
_START = """
import sys
from dataclasses import replace
from pathlib import Path
from services.aggregator import declared
from services.aggregator.__main__ import main
declared.FILE = Path(sys.argv[1])
if sys.argv[2] == "first":
    usual = declared.load()
    declared.load = lambda: replace(usual, aggregations=tuple(a for a in usual.aggregations if a.name == "store"))
raise SystemExit(main())
"""


def main() -> int:
    """Print each run, and the cost of a third entry as a part of the first's."""
    records = int(os.environ.get("BENCH_RECORDS", "4000000"))
    rounds = int(os.environ.get("BENCH_ROUNDS", "1"))
    best = _best(_ENTRIES, records, rounds) | _best({_MANY: _ROW_EACH}, records // 8, 1)

    def share(name: str) -> float:
        return (_cost(best[name]) - _cost(best[_USUAL])) / _cost(best[_FIRST])

    say_goal(f"cost of a third entry with {STORES} ids / cost of the first", share(_SAME), "<=", _GOAL)
    say_goal("cost of a third entry with one text / cost of the first", share(_ONE), "<=", _GOAL)
    say_goal(f"cost of a third entry with sessions of {STORES} ids / cost of the first", share(_LONG), "<=", _GOAL)
    print(f"with a session for each 12 sales: {share(_SHORT):.1f} times the cost of the first")
    print(f"with 100,000 ids, so a row for almost each sale: {share(_MANY):.1f} times the cost of the first")
    return 0


def _best(entries: Mapping[str, str], records: int, rounds: int) -> dict[str, Run]:
    """The cheapest run of each name."""
    best: dict[str, Run] = {}
    usual = declared.FILE
    with world() as w:
        truth = fill(w, records)
        try:
            for _ in range(rounds):
                for name, entry in entries.items():
                    declared.FILE = w.folder / "windows.toml"
                    declared.FILE.write_text(f"{usual.read_text()}\n{entry}\n")
                    run = _run(w, name, records, truth)
                    best[name] = min(run, best.get(name, run), key=_cost)
        finally:
            declared.FILE = usual
    return best


def _run(w: World, name: str, records: int, truth: Truth) -> Run:
    """One run on an empty warehouse, from the beginning."""
    rebuild.empty(w.connections)
    w.place(Group.AGGREGATOR, {(CLEAN, p): 0 for p in range(PARTITIONS)})
    first = name == _FIRST
    command = [sys.executable, "-c", _START, str(declared.FILE), "first" if first else "all"]
    who = Contestant("aggregator", [command], (CLEAN, CLEAN), Group.AGGREGATOR)
    wanted = {window: n for window, n in truth.counts.items() if not first or window[0] == "store"}
    print(f"{name}:", flush=True)
    return measured(w, OURS, who, records, Truth(wanted), FACT_SALES="off")


def _cost(run: Run) -> float:
    return run.cpu + run.servers
