"""Sessions on a real broker, registry and Postgres: late sales join published ones while the aggregator is killed."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from retail_stream.avro.decode import HEADER_BYTES, RecordSchema
from retail_stream.avro.registry import Registry
from retail_stream.settings import Connections
from retail_stream.topics import Result, topic
from services.aggregator import declared, tables
from tests.harness.eventually import eventually
from tests.harness.sales_oracle import SECOND, sessions
from tests.integration.services.aggregator.world import (
    MICROS,
    RULES,
    Aggregators,
    Source,
    is_drained,
    oracle,
    published,
    record,
    stored,
)

GAP = 7 * SECOND
ENTRIES = """
[visit]
by = "store_id"
session = "7s"

[demand]
by = "product_id"
measures = ["transactions", "gross_sales"]
session = "7s"
"""
WITH_SESSIONS = replace(RULES, sessions=(("visit", "store_id", GAP), ("demand", "product_id", GAP)))
DECLARING = "tests.integration.services.aggregator.declaring"
OURS = 99


def test_late_sales_join_published_sessions_while_the_aggregator_is_killed(
    connections: Connections, warehouse: Engine, aggregators: Aggregators, tmp_path: Path
) -> None:
    entries = tmp_path / "windows.toml"
    entries.write_text(declared.FILE.read_text() + ENTRIES)
    with warehouse.begin() as connection:
        tables.make(connection, declared.load(entries))
    source = Source(connections, seed=7)
    process = aggregators.run(DECLARING, DECLARED_FILE=str(entries))
    source.publish(200, seconds=150)
    for _ in range(2):
        first = source.now
        source.sell(OURS, first, first + 12 * SECOND)
        source.now += 12 * SECOND
        source.publish(60, seconds=18)
        eventually(lambda at=first: _fired(warehouse, at) == 4, "both sessions are published, by store and product", 60)
        source.sell(OURS, first + 6 * SECOND)
        process.kill()
        process = aggregators.run(DECLARING, DECLARED_FILE=str(entries))
        source.publish(100, seconds=60)
    eventually(
        lambda: is_drained(connections, warehouse), "all is in the warehouse and on the topics", 120, every_s=0.1
    )

    said, _, _ = oracle(connections, WITH_SESSIONS)
    assert {key: row[:7] for key, row in stored(warehouse).items()} == said.rows
    late = [(int(h["partition"]), int(h["clean.offset"])) for h, _ in published(connections, warehouse, Result.LATE)]
    assert sorted(late) == sorted(said.late)
    wanted = {key: (end, row[0], row[3]) for key, (end, row) in sessions(said.counted).items()}
    rows = {
        (kind, GAP, row.start, row.id): row
        for kind, column in (("visit", "store_id"), ("demand", "product_id"))
        for row in _rows(warehouse, f"sales_by_{kind}_window", column)
    }
    assert {key: (row.until, row.transactions, row.gross) for key, row in rows.items()} == wanted
    with warehouse.connect() as connection:
        mark = connection.execute(text(f"SELECT {MICROS.format('watermark')} FROM stream_watermark")).scalar_one()
    for (_, gap, _, _), row in rows.items():
        over = mark >= row.until + gap + RULES.lateness
        assert row.state == ("final" if over else "fired" if mark >= row.until else "open")
    _results_are_those_of(rows, connections, warehouse)


def _fired(warehouse: Engine, since: int) -> int:
    return sum(
        row.state == "fired" and row.id == OURS and row.start >= since
        for kind, column in (("visit", "store_id"), ("demand", "product_id"))
        for row in _rows(warehouse, f"sales_by_{kind}_window", column)
    )


def _rows(warehouse: Engine, table: str, column: str) -> list[Any]:
    with warehouse.connect() as connection:
        return list(
            connection.execute(
                text(f"""
                    SELECT {column} AS id, {MICROS.format("window_start")} AS start, transactions, revision, state,
                           {MICROS.format("window_end")} AS until, (gross_sales * 100)::bigint AS gross
                    FROM {table}
                """)
            )
        )


def _results_are_those_of(rows: dict[tuple, Any], connections: Connections, warehouse: Engine) -> None:
    """A consumer that keeps the newest record, and drops what is merged, has what the tables have; each came once."""
    versions = Registry(connections.schema_registry_url).versions(topic(Result.WINDOWS).subject)
    readers = {number: RecordSchema(schema) for number, schema in versions.values()}
    times: Counter[tuple] = Counter()
    kept: dict[tuple, tuple] = {}
    merged = 0
    for _, value in published(connections, warehouse, Result.WINDOWS):
        r = record(readers[int.from_bytes(value[1:HEADER_BYTES], "big")], value)
        if r["kind"] not in ("visit", "demand"):
            continue
        number = r["store_id"] if r["kind"] == "visit" else r["product_id"]
        key = (r["kind"], GAP, r["window_start"], number)
        assert (r["window_size"], r["taxes"] is None) == ("7s", r["kind"] == "demand")
        times[*key, r["revision"], r["state"]] += 1
        if r["state"] == "merged":
            assert (r["window_end"], r["transactions"]) == (r["window_start"], 0)
            del kept[key]
            merged += 1
        else:
            gross = int.from_bytes(r["gross_sales"], "big", signed=True)
            kept[key] = (r["window_end"], r["transactions"], gross, r["revision"], r["state"])
    assert set(times.values()) == {1}, "a result was published twice"
    assert merged >= 4, "sessions by store and by product, twice"
    now = {key: row for key, row in rows.items() if row.state != "open"}
    again = {key for key, row in rows.items() if row.state == "open" and row.revision > 0}
    assert kept.keys() == now.keys() | again
    assert {key: kept[key] for key in now} == {
        key: (row.until, row.transactions, row.gross, row.revision, row.state) for key, row in now.items()
    }
    with warehouse.connect() as connection:
        revisions = connection.execute(
            text(f"""
                SELECT kind, {MICROS.format("window_size")}, {MICROS.format("window_start")}, id::integer, revision
                FROM window_revisions WHERE kind IN ('visit', 'demand')
            """)
        )
        assert sorted(map(tuple, revisions)) == sorted(key[:-1] for key in times if key[-1] != "final")
