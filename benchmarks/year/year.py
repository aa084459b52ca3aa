"""`make bench-year`: a warehouse with a year of data beside one with a day.

BENCH_DAYS (365) days with BENCH_PER_DAY (1,000) sales, windows and versions of each dimension are written by SQL. Then
a stream of BENCH_RECORDS (400,000) sales goes on behind them. BENCH_IDENTITIES (2,000,000) is how many sales two
replicas hold for windows of a day. Beside other work, the ratios of the aggregator's own CPU say more than rates.
"""

import os
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from confluent_kafka import TopicPartition
from sqlalchemy import Engine, text

from benchmarks.cleaner.contestants import Contestant
from benchmarks.cleaner.running import check, cpu_seconds, going_on, running, say_goal
from benchmarks.cleaner.world import CLEAN, PARTITIONS, World, world
from benchmarks.windows import rises
from benchmarks.windows.contestants import ENTRANTS, OURS
from benchmarks.windows.rate import measured
from benchmarks.windows.stream import fill
from benchmarks.year.load import History, hold_identities
from benchmarks.year.queries import Query, queries
from commands.embedded.settings import free_ports
from commands.status.status import look
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.topics import Result, topic
from retail_stream.warehouse import postgres
from retail_stream.warehouse.topics_read import TopicsRead
from services.aggregator import outbox, settings
from services.aggregator.batch import Aggregator

#: Less than this is not told apart from nothing.
_LEAST_S = 0.01
_TIMES = 5
_READY_S, _PATIENCE_S = 120.0, 300.0


def main() -> int:
    """Print a row for each figure: a day's, a year's, and their ratio."""
    days, per_day = _number("BENCH_DAYS", 365), _number("BENCH_PER_DAY", 1_000)
    records, identities = _number("BENCH_RECORDS", 400_000), _number("BENCH_IDENTITIES", 2_000_000)
    print(f"{per_day:,} sales, windows and versions a day, for 1 and {days} days; then {records:,} sales", flush=True)
    day, year = (_figures(History(n, per_day), records) for n in (1, days))
    print(f"\ntwo replicas, windows of a minute and of a day; {0:,}, then {identities:,} sales held", flush=True)
    fresh, held = (_two_replicas(records, n) for n in (0, identities))
    print(f"\n{'':<66}{'a day':>10}{'a year':>10}")
    per_row = {_per_row(q) for q in queries() if q.reads}
    for name, figure in day.items():
        if name in per_row:
            print(f"{name:<66}{figure * 1e6:>7.2f} µs{year[name] * 1e6:>7.2f} µs")
        elif name not in (_RATE, _CPU):
            print(f"{name:<66}{figure * 1e3:>7.0f} ms{year[name] * 1e3:>7.0f} ms")
    print()
    say_goal("aggregator, sales/s: year / day", year[_RATE] / day[_RATE], ">=", 0.8)
    say_goal("aggregator, CPU of a sale: year / day", year[_CPU] / day[_CPU], "<=", 1.25)
    say_goal(f"two replicas, CPU: {identities:,} held / none", held / fresh, "<=", 1.25)
    for name, figure in day.items():
        if name not in (_RATE, _CPU):
            least = 0.0 if name in per_row else _LEAST_S
            say_goal(f"{name}: year / day", max(year[name], least) / max(figure, least), "<=", 1.25)
    return rises.main()


_RATE, _CPU = "sales/s", "CPU of a sale"


def _per_row(query: Query) -> str:
    return f"{query.title[:58]}, per row"


def _number(variable: str, usual: int) -> int:
    return int(os.environ.get(variable, usual))


def _figures(history: History, records: int) -> Mapping[str, float]:
    """Name → seconds, seconds per row, or sales/s, on servers of their own."""
    with world() as w:
        engine = postgres.engine(w.connections.database_url)
        began = time.monotonic()
        history.fill(engine)
        print(f"{history.rows:,} rows of each table written in {time.monotonic() - began:.0f} s", flush=True)
        who = ENTRANTS[OURS].contestant(w)
        run = measured(w, OURS, who, records, fill(w, records))
        found = {_RATE: run.rate, _CPU: run.cpu}
        found["aggregator: from its start until it reads"] = _restart(w, who)
        found["aggregator: a claim of all partitions"] = _median(_claim(w, engine))
        found["retail-stream status"] = _median(lambda: look(engine, w.connections))
        for query in queries():
            took = _median(lambda sql=query.sql: _answer(engine, sql))  # type: ignore[misc]
            if query.reads:
                with engine.connect() as connection:
                    rows = connection.execute(text(f"SELECT count(*) FROM {query.reads}")).scalar_one()
                found[_per_row(query)] = took / rows
            else:
                found[query.title] = took
        engine.dispose()
    return found


def _median(do: Callable[[], object]) -> float:
    """Seconds; the first time does not count."""
    took = []
    for _ in range(_TIMES + 1):
        began = time.monotonic()
        do()
        took.append(time.monotonic() - began)
    return statistics.median(took[1:])


def _answer(engine: Engine, sql: str) -> None:
    with engine.connect() as connection:
        connection.execute(text(sql)).all()


def _claim(w: World, engine: Engine) -> Callable[[], object]:
    config = settings.AggregatorSettings(**w.connections.model_dump())
    registry = Registry(w.connections.schema_registry_url)
    writers, rise_writers = (SubjectSchemas(registry, topic(t).subject) for t in (CLEAN, Result.WATERMARKS))
    encoder = outbox.Encoder({Result.WINDOWS: 1, Result.WATERMARKS: 2}, config.rules)
    topics_read = TopicsRead(w.connections, [Entity.SALES])
    aggregator = Aggregator(engine, config, encoder, writers, rise_writers, topics_read)
    partitions = topic_partitions(w.connections, CLEAN)
    return lambda: aggregator.claim(partitions)


def _restart(w: World, who: Contestant) -> float:
    """Seconds until it says that it reads all its partitions."""
    (port,) = free_ports(1)
    began = time.monotonic()
    with going_on(w, who, METRICS_PORT=str(port)) as started:
        while not _is_ready(port):
            check(started)
            if time.monotonic() - began > _READY_S:
                raise TimeoutError(f"not ready in {_READY_S:.0f} s: {started[0].last_lines()}")
            time.sleep(0.02)
        return time.monotonic() - began


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _two_replicas(records: int, identities: int) -> float:
    """CPU-seconds of both from their start until all sales are stored; the seconds depend on when the group forms."""
    with world() as w:
        engine = postgres.engine(w.connections.database_url)
        hold_identities(engine, PARTITIONS, identities // PARTITIONS)
        engine.dispose()
        one = ENTRANTS[OURS].contestant(w)
        two = Contestant(one.name, one.commands * 2, one.outputs, one.group)
        truth = fill(w, records)
        places = [TopicPartition(CLEAN, p) for p in range(PARTITIONS)]
        asking = clients.consumer(w.connections, one.group)
        with running(w, two, SALES_WINDOWS="1m,1d", FACT_SALES="off") as started:
            began = time.monotonic()
            while sum(max(0, tp.offset) for tp in asking.committed(places, timeout=10)) < records:
                check(started)
                if time.monotonic() - began > _PATIENCE_S:
                    raise TimeoutError(f"not done in {_PATIENCE_S:.0f} s: {started[0].last_lines()}")
                time.sleep(0.05)
            took, cpu = time.monotonic() - began, cpu_seconds(p.pid for p in started)
        asking.close()
        wrong = truth.differs(ENTRANTS[OURS].found(w))
    print(
        f"{identities:>10,} held: {took:6.1f} s, {cpu:6.1f} CPU-s, {wrong} of {len(truth.counts)} windows wrong",
        flush=True,
    )
    return cpu
