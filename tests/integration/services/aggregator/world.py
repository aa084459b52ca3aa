"""Aggregators on a real broker, registry and Postgres: their input, and what must come of it."""

import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from confluent_kafka import Message
from sqlalchemy import Engine, text

from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SOURCE_OFFSET, as_big_endian, big_endian, headers_by_name
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import SCHEMAS, Group, Result
from tests.harness.eventually import eventually
from tests.harness.groups import remove_members
from tests.harness.rows import every_row
from tests.harness.sales_oracle import SECOND, Outcome, Rules, count, top
from tests.harness.servers import replace_database
from tests.harness.services import ServiceProcess, Services, servers_of

SALES = json.loads((SCHEMAS / "clean" / "sales.avsc").read_text())
WINDOWS = RecordSchema(json.loads((SCHEMAS / "results" / "sales.windows.avsc").read_text()))
RISES = RecordSchema(json.loads((SCHEMAS / "results" / "sales.watermarks.avsc").read_text()))
MICROS = "(extract(epoch FROM {}) * 1000000)::bigint"
CENTS = ("gross_sales", "returns_amount", "discounts", "taxes")
STORES = range(1, 13)
SETTINGS = {"SALES_WINDOWS": "10s,1m/20s", "WATERMARK_DELAY_S": "5", "ALLOWED_LATENESS_S": "20"}
RULES = Rules(((10 * SECOND, 10 * SECOND), (60 * SECOND, 20 * SECOND)), 5 * SECOND, 20 * SECOND)


class Aggregators(Services):
    """Aggregator processes on one warehouse."""

    def __init__(self, connections: Connections, log: Path) -> None:
        super().__init__({**servers_of(connections), **SETTINGS, "IDLE_TIMEOUT_S": "3600"}, log)
        self.connections = connections

    def run(self, program: str = "aggregator", **settings: str) -> ServiceProcess:
        """Start one, after removing from the group those that were killed."""
        brokers = self.connections.kafka_bootstrap_servers
        if any(not service.is_running() for service in self.started):
            remove_members(clients.admin(self.connections), brokers, Group.AGGREGATOR)
        return self.start(program, **settings)


class Source:
    """Publishes clean sales as the cleaner would, later than all that the shared topic holds already."""

    def __init__(self, connections: Connections, seed: int) -> None:
        self.rng = random.Random(seed)
        self.producer = clients.producer(connections)
        registry = Registry(connections.schema_registry_url)
        self.schema_id = registry.register("sales.clean-value", SALES)
        self.sources: Counter[int] = Counter()
        newest = 0
        for message in read_to_end(connections, "sales.clean"):
            newest = max(newest, message.timestamp()[1] * 1000)
            source = big_endian(headers_by_name(message).get(SOURCE_OFFSET))
            self.sources[message.partition()] = max(self.sources[message.partition()], source or 0)
        self.now = max(newest, 1_700_000_000 * SECOND) // (60 * SECOND) * 60 * SECOND + 3600 * SECOND
        self.partitions = len(topic_partitions(connections, "sales.clean"))
        self.recent: list[dict[str, Any]] = []

    def publish(self, sales: int, seconds: int = 60) -> None:
        """This many sales over ``seconds`` of event time, some of them late, published twice, or repeated."""
        rng = self.rng
        for _ in range(sales):
            self.now += rng.randrange(2 * seconds * SECOND // sales)
            if self.recent and rng.random() < 0.1:
                sale = rng.choice(self.recent[-50:])
            else:
                total = rng.randrange(-(10**6), 10**7) / 1000
                sale = {
                    "transaction_id": rng.randrange(10**9),
                    "store_id": rng.choice(STORES),
                    "event_time": self.now
                    - rng.choice((0, 0, 0, rng.randrange(9 * SECOND), rng.randrange(90 * SECOND))),
                    "customer_id": rng.randrange(100),
                    "product_id": rng.randrange(5),
                    "quantity": -1 if total < 0 else rng.randrange(4),
                    "unit_price": abs(total),
                    "total_amount": total,
                    "payment_method": 'card, "quoted"',
                    "discount_applied": rng.randrange(10**4) / 1000,
                    "tax_amount": total / 12,
                }
                self.recent.append(sale)
            self._send(sale)
        self.producer.flush(30)

    def sell(self, number: int, *times: int) -> None:
        """A sale at each time, of the store and the product with this number."""
        for time in times:
            sale = dict.fromkeys((f["name"] for f in SALES["fields"]), 1)
            fields = {"transaction_id": self.rng.randrange(10**9), "store_id": number, "product_id": number}
            self._send({**sale, **fields, "event_time": time, "payment_method": "card"})
        self.producer.flush(30)

    def _send(self, sale: dict[str, Any]) -> None:
        partition = sale["store_id"] % self.partitions
        self.sources[partition] += self.rng.randrange(1, 3)
        for _ in range(1 + (self.rng.random() < 0.05)):  # the cleaner is at-least-once
            self.producer.produce(
                "sales.clean",
                key=str(sale["store_id"]).encode(),
                value=frame(self.schema_id, encode(SALES, sale)),
                partition=partition,
                timestamp=self.now // 1000,
                headers=[(SOURCE_OFFSET, as_big_endian(self.sources[partition]))],
            )


def record(schema: RecordSchema, value: bytes) -> dict[str, Any]:
    """A value of a topic as its fields."""
    fields = schema.record(value[HEADER_BYTES:])
    assert fields is not None
    return fields


def oracle(connections: Connections, rules: Rules = RULES) -> tuple[Outcome, dict[tuple, tuple], dict[tuple, int]]:
    """The outcome of all of `sales.clean` with the rises of `sales.watermarks`, and what names its records.

    That is: the identity of each sale → timestamp, partition and raw offset of its first record; the partition and
    offset of each clean record → its raw offset.
    """
    rises = defaultdict(list)
    for message in read_to_end(connections, Result.WATERMARKS):
        rise = record(RISES, message.value())
        rises[rise["partition"]].append((rise["next_offset"], rise["watermark"]))
    out = Outcome()
    identities: dict[tuple, tuple] = {}
    raw: dict[tuple, int] = {}
    sums: dict[tuple, list[int]] = {}
    marks: dict[int, int | None] = defaultdict(lambda: None)
    sources: Counter[int] = Counter()
    seen: dict[int, set] = defaultdict(set)
    messages = list(read_to_end(connections, "sales.clean"))
    for message, sale in zip(messages, every_row(RecordSchema(SALES), map(Message.value, messages)), strict=True):
        p, source = message.partition(), big_endian(headers_by_name(message)[SOURCE_OFFSET])
        assert source is not None
        if source <= sources[p]:
            continue
        sources[p] = source
        assert sale is not None
        mark = top(marks[p], *(w for offset, w in rises[p] if offset <= message.offset()))
        count({**sale, "offset": message.offset()}, p, mark, rules, seen[p], sums, out)
        marks[p] = top(mark, min(sale["event_time"], message.timestamp()[1] * 1000) - rules.delay)
        stamp, raw[p, message.offset()] = message.timestamp()[1] * 1000, source
        identities.setdefault((sale["transaction_id"], sale["event_time"], sale["store_id"]), (stamp, p, source))
    out.rows = {key: tuple(row) for key, row in sums.items()}
    return out, identities, raw


def stored(engine: Engine) -> dict[tuple, tuple]:
    """Rows of both window tables: (kind, size, start, id) → (measures in cents, state, revision)."""
    rows = {}
    for kind, table in (("store", "sales_by_window"), ("product", "sales_by_product_window")):
        with engine.connect() as connection:
            for row in connection.execute(
                text(f"""
                    SELECT extract(epoch FROM window_size)::bigint * 1000000,
                           extract(epoch FROM window_start)::bigint * 1000000, {kind}_id, transactions, units_sold,
                           units_returned, gross_sales, returns_amount, discounts, taxes, state, revision
                    FROM {table}
                """)
            ):
                size, start, number, *counts = row[:6]
                cents = [int(a * 100) for a in row[6:10]]
                rows[kind, size, start, number] = (*counts, *cents, row[10], row[11])
    return rows


def published(connections: Connections, engine: Engine, topic: str) -> list[tuple[dict[str, str], bytes]]:
    """Committed records of this warehouse: text headers and value."""
    with engine.connect() as connection:
        mine = str(connection.execute(text("SELECT id FROM warehouse_id")).scalar_one())
    found = []
    for message in read_to_end(connections, topic):
        headers = {n: v.decode() for n, v in headers_by_name(message).items() if v and n != SOURCE_OFFSET}
        if headers["outbox.id"].startswith(mine):
            found.append(({**headers, "partition": str(message.partition())}, message.value()))
    return found


def is_drained(connections: Connections, engine: Engine) -> bool:
    """Whether all of `sales.clean` is in the warehouse and all of the outbox on the topics."""
    ends = end_offsets(connections, topic_partitions(connections, "sales.clean"))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT partition, next_offset FROM consumer_positions")).all()
        waiting = connection.execute(text("SELECT count(*) FROM outbox")).scalar_one()
    return dict(map(tuple, rows)) == {p: end for (_, p), end in ends.items()} and waiting == 0


def assert_all_is_right(connections: Connections, engine: Engine) -> Outcome:
    """Windows, facts, late sales and results are those of the oracle, and everything is there once."""
    eventually(lambda: is_drained(connections, engine), "all is in the warehouse and on the topics", 120, every_s=0.1)
    said, identities, raw = oracle(connections)
    rows = stored(engine)
    assert {key: row[:7] for key, row in rows.items()} == said.rows
    with engine.connect() as connection:
        mark = connection.execute(text("SELECT extract(epoch FROM watermark)*1000000 FROM stream_watermark")).scalar()
        facts = connection.execute(
            text(f"""
                SELECT transaction_id, {MICROS.format("event_time")}, store_id, {MICROS.format("published_at")},
                       source_partition, source_offset FROM fact_sales
            """)
        )
        assert sorted(map(tuple, facts)) == sorted((*identity, *record) for identity, record in identities.items())
        missed = connection.execute(text("SELECT source_partition, source_offset FROM late_sales"))
        assert sorted(map(tuple, missed)) == sorted((p, raw[p, offset]) for p, offset in said.late)
    for (_, size, start, _), row in rows.items():
        past = mark is not None and mark >= start + size
        over = mark is not None and mark >= start + size + RULES.lateness
        assert row[7] == ("final" if over else "fired" if past else "open")
    late = [(int(h["partition"]), int(h["clean.offset"])) for h, _ in published(connections, engine, Result.LATE)]
    assert sorted(late) == sorted(said.late)
    results: Counter[tuple] = Counter()
    last: dict[tuple, tuple] = {}
    for _, value in published(connections, engine, Result.WINDOWS):
        r = record(WINDOWS, value)
        key = (r["kind"], r["window_end"] - r["window_start"], r["window_start"], r[f"{r['kind']}_id"])
        results[*key, r["revision"], r["state"]] += 1
        cents = [
            int.from_bytes(r[m], "big", signed=True) for m in ("gross_sales", "returns_amount", "discounts", "taxes")
        ]
        last[key] = (r["transactions"], r["units_sold"], r["units_returned"], *cents, r["state"], r["revision"])
    assert set(results.values()) <= {1}, "a result was published twice"
    assert last == {key: row for key, row in rows.items() if row[7] != "open"}
    with engine.connect() as connection:
        revisions = connection.execute(
            text(f"""
                SELECT kind, {MICROS.format("window_size")}, {MICROS.format("window_start")}, id::integer, revision,
                       'fired' FROM window_revisions
            """)
        )
        assert sorted(map(tuple, revisions)) == sorted(key for key in results if key[-1] == "fired")
    return said


def empty(connections: Connections, engine: Engine) -> None:
    """Drop the warehouse and make a new one beside the same topics."""
    engine.dispose()
    replace_database(connections)
