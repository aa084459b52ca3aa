"""Changes a second into SCD type 2, and how many of the histories come out right: the merger beside other ways.

BENCH_CHANGES (100,000), BENCH_KEYS (20,000), BENCH_ROUNDS (3) and BENCH_ONLY (ours,rows,dlt,dbt) say how much.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import polars as pl
from sqlalchemy import Engine, text

from benchmarks.cleaner.contestants import PEERS_PYTHON, ROOT
from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import World, world
from benchmarks.scd import row_by_row
from benchmarks.scd.merging import Merging
from benchmarks.scd.stream import COLUMNS, Change, Stream, Version, share_right, stream
from retail_stream.warehouse import postgres

OURS, ROWS, DLT, DBT = "ours", "rows", "dlt", "dbt"
TITLES = {OURS: "scd_merger", ROWS: "row by row, SQLAlchemy", DLT: "dlt scd2, 20 loads", DBT: "dbt snapshot, 20 runs"}
GOALS = {ROWS: 20.0, DLT: 1.5, DBT: 3.0}
#: Row by row would take minutes for all of them: it gets a fifth, over a fifth of the keys.
_ROWS_SHARE = 5
_LOADS = 20
_MICROS = "(extract(epoch FROM {0}) * 1000000)::bigint"


@dataclass(frozen=True)
class Run:
    """``rate``: changes/s; ``right``: the share of keys with exactly the right history."""

    rate: float
    right: float


def main() -> int:
    """Print the table and the ratios; 0 whether or not the goals were reached, which is said."""
    count, keys = int(os.environ.get("BENCH_CHANGES", "100000")), int(os.environ.get("BENCH_KEYS", "20000"))
    rounds, names = int(os.environ.get("BENCH_ROUNDS", "3")), os.environ.get("BENCH_ONLY", ",".join(TITLES)).split(",")
    if unknown := sorted(set(names) - set(TITLES)):
        print(f"BENCH_ONLY has {unknown[0]!r}; allowed: {', '.join(TITLES)}.", file=sys.stderr)
        return 2
    changes = stream(count, keys)
    print(f"\n{count:,} changes of {keys:,} products, {changes.late:.1%} late; row by row a fifth of both")
    print(f"{'':<26}{'changes/s':>12}{'histories right':>18}")
    best: dict[str, Run] = {}
    with world() as w, tempfile.TemporaryDirectory(prefix="scd-") as folder:
        contest = Contest(w, changes, Path(folder))
        for _ in range(rounds):
            for name in names:
                if (run := contest.run(name)) is None:
                    continue
                best[name] = max(run, best.get(name, run), key=lambda r: r.rate)
                print(f"{TITLES[name]:<26}{run.rate:>12,.0f}{run.right:>18.1%}", flush=True)
    print("\nratios of the best rounds")
    for name, goal in GOALS.items():
        if name in best and OURS in best:
            say_goal(f"rate: {TITLES[OURS]} / {TITLES[name]}", best[OURS].rate / best[name].rate, ">=", goal)
    if OURS in best:
        say_goal(f"{TITLES[OURS]}: share of histories that are right", best[OURS].right, ">=", 1)
    return 0


class Contest:
    """The same changes for each way, on one Postgres."""

    def __init__(self, w: World, changes: Stream, folder: Path) -> None:
        self._world, self._changes, self._folder = w, changes, folder
        self._engine = postgres.engine(w.connections.database_url)
        self._merging = Merging(w, self._engine)
        count, keys = len(changes.changes) // _ROWS_SHARE, len({change[0] for change in changes.changes}) // _ROWS_SHARE
        self._few = stream(count, keys).changes
        self._file = folder / "changes.parquet"
        _frame(changes.changes).write_parquet(self._file)

    def run(self, name: str) -> Run | None:
        """One way, from an empty table; None where it is not installed."""
        ways: dict[str, Callable[[], Run | None]] = {
            OURS: self._ours,
            ROWS: self._rows,
            DLT: lambda: self._peer("dlt_scd2", "dlt_scd2.products", "_dlt_valid_from", "_dlt_valid_to"),
            DBT: lambda: self._peer("dbt_snapshot", "dbt_snapshot.products_snapshot", "dbt_valid_from", "dbt_valid_to"),
        }
        return ways[name]()

    def _ours(self) -> Run:
        changes = self._changes.changes
        rate = self._merging.rate(changes)
        return Run(rate, share_right(_found(self._engine, "dim_products", "valid_from", "valid_to"), changes))

    def _rows(self) -> Run:
        took = row_by_row.run(self._engine, self._few)
        found = _found(self._engine, row_by_row.TABLE, "valid_from", "valid_to")
        return Run(len(self._few) / took, share_right(found, self._few))

    def _peer(self, module: str, table: str, begin: str, end: str) -> Run | None:
        if not PEERS_PYTHON.exists():
            print(f"{module}: not measured, the peers' packages are not installed (make bench-scd does it)")
            return None
        with self._engine.begin() as connection:
            for schema in (table.partition(".")[0], f"{table.partition('.')[0]}_staging"):
                connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
        folder = self._folder / f"{module}-{time.monotonic_ns()}"
        folder.mkdir()
        url = self._world.connections.database_url.replace("+psycopg", "")
        command = [
            str(PEERS_PYTHON),
            "-m",
            f"benchmarks.peers.{module}",
            url,
            str(self._file),
            str(_LOADS),
            str(folder),
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        found = _found(self._engine, table, begin, end)
        seconds = float(done.stdout.split()[-1])
        return Run(len(self._changes.changes) / seconds, share_right(found, self._changes.changes))


def _frame(changes: Sequence[Change]) -> pl.DataFrame:
    frame = pl.DataFrame(changes, schema=list(COLUMNS), orient="row").drop("deleted")
    return frame.with_columns(pl.col("last_update_time").cast(pl.Datetime("us", "UTC")))


def _found(engine: Engine, table: str, begin: str, end: str) -> dict[int, list[Version]]:
    query = f"""
        SELECT product_id, {_MICROS.format(begin)}, {_MICROS.format(end)}, (price * 100)::int, stock_quantity
        FROM {table} ORDER BY product_id, 2
    """
    with engine.connect() as connection:
        rows = connection.execute(text(query)).all()
    return {key: [tuple(r[1:]) for r in own] for key, own in groupby(rows, key=itemgetter(0))}  # type: ignore[misc]
