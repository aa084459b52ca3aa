"""What a third entry of `schemas/windows.toml` costs, beside the two that are always there.

The first entry costs what an aggregator with stores only needs, reading and decoding included. A further one costs what
the aggregator needs with it, less what it needs without it. Cost is CPU time, of the aggregator and of the servers.
BENCH_RECORDS (1,000,000) says how many sales, BENCH_ROUNDS (1) how often each is measured.
"""

import os
import sys
from pathlib import Path

from benchmarks.cleaner.contestants import Contestant
from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import CLEAN, PARTITIONS, World, world
from benchmarks.windows.contestants import OURS
from benchmarks.windows.rate import Run, measured
from benchmarks.windows.stream import STORES, Truth, fill
from commands import rebuild
from retail_stream.topics import Group
from services.aggregator import declared

_FIRST, _USUAL, _SAME, _ONE, _MANY = "stores only", "stores and products", "by store again", "by payment", "by customer"
_LONG, _SHORT = "sessions by store", "sessions by product"
_ENTRIES = {
    _FIRST: "",
    _USUAL: "",
    _SAME: "[third]\nby = 'store_id'",
    _ONE: "[third]\nby = 'payment_method'",
    _MANY: "[third]\nby = 'customer_id'",
    # A store has a sale each 0.08 s, a product each 0.4 s: sessions without end, and of some 12 sales.
    _LONG: "[third]\nby = 'store_id'\nsession = '30s'",
    _SHORT: "[third]\nby = 'product_id'\nsession = '1s'",
}
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
    records = int(os.environ.get("BENCH_RECORDS", "1000000"))
    best: dict[str, Run] = {}
    usual = declared.FILE
    with world() as w:
        truth = fill(w, records)
        try:
            for _ in range(int(os.environ.get("BENCH_ROUNDS", "1"))):
                for name in _ENTRIES:
                    run = _run(w, name, usual, records, truth)
                    best[name] = min(run, best.get(name, run), key=_cost)
        finally:
            declared.FILE = usual

    def share(name: str) -> float:
        return (_cost(best[name]) - _cost(best[_USUAL])) / _cost(best[_FIRST])

    say_goal(f"cost of a third entry with {STORES} ids / cost of the first", share(_SAME), "<=", _GOAL)
    say_goal("cost of a third entry with one text / cost of the first", share(_ONE), "<=", _GOAL)
    say_goal(f"cost of a third entry with sessions of {STORES} ids / cost of the first", share(_LONG), "<=", _GOAL)
    print(f"with a session for each 12 sales: {share(_SHORT):.1f} times the cost of the first")
    print(f"with 100,000 ids, so a row for almost each sale: {share(_MANY):.1f} times the cost of the first")
    return 0


def _run(w: World, name: str, usual: Path, records: int, truth: Truth) -> Run:
    """One run on an empty warehouse, from the beginning."""
    declared.FILE = w.folder / "windows.toml"
    declared.FILE.write_text(f"{usual.read_text()}\n{_ENTRIES[name]}\n")
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
