"""Bytes a record of each topic and each table, and what a year of them is. docs/growth.md has a run.

Two streams run through the whole pipeline for BENCH_SECONDS (60) each: 50 sales/s, the default, and
BENCH_SALES_PER_S (1000). Changes of each dimension are a tenth of the sales. Small batches cost bytes, so a year at
50 sales/s is reckoned from the first stream, other years from the second. Tables were vacuumed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text

from benchmarks.cleaner.world import World, world
from benchmarks.year import drained
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.kafka.reading import read_to_end
from retail_stream.topics import TOPICS, Result
from retail_stream.warehouse import postgres
from services.generator.settings import CHANGES_PER_S, SALES_PER_S

_YEAR_S = 365 * 86_400
_RATES = (50, 1_000, 10_000)
_TABLES = text("""
    SELECT n.nspname || '.' || c.relname, coalesce(
               (SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(c.oid) t),
               pg_total_relation_size(c.oid))::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('public', 'pipeline') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY 1
""")


#: Their rows are as many as ids that sell in a minute, however many sales they sum.
_OF_WINDOWS = ("public.sales_by_window", "public.sales_by_product_window", "sales.windows")
_MOST_A_MINUTE = "SELECT max(n) FROM (SELECT count(*) AS n FROM {} GROUP BY window_start) w"
_LEAST = 1_000


@dataclass(frozen=True)
class Size:
    """Records of a topic or rows of a table, and their bytes on disk, indexes included."""

    number: int
    size: int

    @property
    def each(self) -> float:
        """Bytes of one."""
        return self.size / self.number


@dataclass(frozen=True)
class Stream:
    """What a stream of so many ``sales`` left. ``windows``: rows of the fullest minute of both tables of windows."""

    sales: int
    sizes: Mapping[str, Size]
    windows: Mapping[str, int]


def main() -> int:
    """Print a row for each topic and table."""
    seconds, fast = int(os.environ.get("BENCH_SECONDS", "60")), int(os.environ.get("BENCH_SALES_PER_S", "1000"))
    slow, quick = (_stream(int(rate), seconds) for rate in (SALES_PER_S, fast))
    print(f"{'':<34}{'records':>10}{'bytes each':>12}" + "".join(f"{f'GB a year at {r:,}/s':>22}" for r in _RATES))
    totals = dict.fromkeys(_RATES, 0.0)
    for name, size in quick.sizes.items():
        # A compacted topic levels off.
        if size.number < _LEAST or name == Result.STATE:
            continue
        line = f"{name:<34}{size.number:>10,}{size.each:>12,.0f}"
        for rate in _RATES:
            years = _year_bytes(name, slow if rate <= SALES_PER_S else quick, quick, rate)
            totals[rate] += years
            line += f"{years / 1e9:>22,.1f}"
        print(line)
    print(f"{'all':<56}" + "".join(f"{total / 1e9:>22,.0f}" for total in totals.values()), flush=True)
    return 0


def _year_bytes(name: str, like: Stream, quick: Stream, rate: int) -> float:
    """Bytes of a year at ``rate`` sales/s, if there are as many records a sale as in the stream ``like``.

    Tables that are small have empty pages, so bytes of a row are those of the ``quick`` stream.
    """
    mine = like.sizes.get(name, Size(0, 1))
    each = quick.sizes[name].each if "." in name and name.split(".")[0] in ("public", "pipeline") else None
    size = mine.number * each if each is not None else mine.size
    if name in _OF_WINDOWS:
        # Of a topic: as many records a row as here.
        tables = _OF_WINDOWS[:2] if name == _OF_WINDOWS[2] else (name,)
        rows = sum(like.sizes[t].number for t in tables)
        return size / rows * sum(like.windows[t] for t in tables) * _YEAR_S / 60
    return size / like.sales * rate * _YEAR_S


def _stream(rate: int, seconds: int) -> Stream:
    with world() as w:
        changes = str(rate * CHANGES_PER_S / SALES_PER_S)
        env = {"GENERATOR_SALES_PER_S": str(rate), "GENERATOR_MAX_SALES": str(rate * seconds)}
        drained.run(w, **env, GENERATOR_CHANGES_PER_S=changes)
        engine = postgres.engine(w.connections.database_url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
            names = connection.execute(_TABLES).all()
            sizes = {n: Size(connection.execute(text(f"SELECT count(*) FROM {n}")).scalar_one(), b) for n, b in names}
            windows = {t: connection.execute(text(_MOST_A_MINUTE.format(t))).scalar_one() for t in _OF_WINDOWS[:2]}
        engine.dispose()
        return Stream(rate * seconds, _topics(w) | sizes, windows)


def _topics(w: World) -> dict[str, Size]:
    """Committed records of each topic, and the bytes of its segments with the markers of transactions."""
    data = w.folder / "state" / "kafka" / "data"
    found = {}
    for t in TOPICS:
        number = sum(1 for _ in read_to_end(w.connections, t.name))
        files = [f for p in topic_partitions(w.connections, t.name) for f in (data / f"{p[0]}-{p[1]}").glob("*.log")]
        found[t.name] = Size(number, sum(f.stat().st_size for f in files))
    return found
