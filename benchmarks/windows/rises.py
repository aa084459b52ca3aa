"""A rebuild after quiet traffic: 2,500 recorded rises of one partition, and ten times as many.

Quiet traffic leaves a rise and a batch of Kafka for each sale, and most of these sales are late. The sales are stored
in one transaction, as a rebuild reads them.
"""

import struct
import time
from dataclasses import dataclass

from aiokafka.record.util import calc_crc32c
from sqlalchemy import Engine, text

from benchmarks.cleaner.running import say_goal
from benchmarks.cleaner.world import CLEAN, World, world
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.kafka.headers import SOURCE_OFFSET
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.kafka.record_batches import reference
from retail_stream.kafka.record_batches.batch import CHECKED, HEADER, HEADER_BYTES
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.topics import Result, topic
from retail_stream.warehouse import postgres
from retail_stream.warehouse.topics_read import TopicsRead
from services.aggregator import outbox, ownership, settings, warehouse
from services.aggregator.batch import Aggregator
from services.aggregator.watermark import Rise
from services.aggregator.windows import SECOND
from services.scd_merger.dimensions import clean_schema

_FEW, _MANY = 2_500, 25_000
_START, _EVERY_S, _TOO_LATE_S, _A_PIECE = 1_750_000_020 * SECOND, 15, 200, 10


@dataclass(frozen=True)
class _Seconds:
    claim: float
    store: float


def main() -> int:
    """Print the seconds of both, and what a rise costs among many beside a few."""
    with world() as w:
        engine = postgres.engine(w.connections.database_url)
        _seconds(w, engine, 100)  # what the first statements of a process cost
        few, many = (_seconds(w, engine, n) for n in (_FEW, _MANY))
        engine.dispose()
    for number, took in ((_FEW, few), (_MANY, many)):
        print(f"{number:>7,} rises: claim {took.claim:6.2f} s, store {took.store:6.2f} s", flush=True)
    each = [(t.claim + t.store) / n for n, t in ((_FEW, few), (_MANY, many))]
    say_goal("seconds a rise: among 25,000 / among 2,500", each[1] / each[0], "<=", 1.5)
    return 0


def _seconds(w: World, engine: Engine, rises: int) -> _Seconds:
    with engine.begin() as connection:
        connection.execute(
            text("""
            TRUNCATE consumer_positions, replayed_rises, sale_identities, partition_watermarks, outbox, fact_sales,
                     late_sales, sales_by_window, sales_by_product_window;
            UPDATE stream_watermark SET watermark = NULL, advanced_at = NULL
        """)
        )
    config = settings.AggregatorSettings(**w.connections.model_dump())
    subject = topic(CLEAN).subject
    registry = Registry(w.connections.schema_registry_url)
    writer = RecordSchema(clean_schema(Entity.SALES))
    number = registry.register(subject, writer.schema)
    writers = SubjectSchemas(registry, subject)
    encoder = outbox.Encoder({Result.WINDOWS: 1, Result.WATERMARKS: 2}, config.rules)
    topics_read = TopicsRead(w.connections, [Entity.SALES])
    aggregator = Aggregator(engine, config, encoder, writers, writers, topics_read)
    with warehouse.transaction(engine) as connection:
        settings.keep(connection, config.shaping)
    times = [_START + i * _EVERY_S * SECOND for i in range(rises)]
    recorded = [Rise(0, i + 1, t + _TOO_LATE_S * SECOND) for i, t in enumerate(times)]
    began = time.monotonic()
    with warehouse.transaction(engine) as connection:
        ownership.ensure_rows(connection, CLEAN, [0])
        owned = ownership.claim(connection, CLEAN, [0], recorded, encoder)
    claimed = time.monotonic() - began
    sales = [_sale(writer, number, i, t) for i, t in enumerate(times)]
    read = PartitionRecords(tuple(_piece(sales[i : i + _A_PIECE]) for i in range(0, rises, _A_PIECE)), 0, rises)
    records, ours = {(CLEAN, 0): read}, {o.position.key: o for o in owned.values()}
    rows = aggregator.rows(records)
    began = time.monotonic()
    aggregator.store(ours, records, rows, frozenset())
    return _Seconds(claimed, time.monotonic() - began)


def _sale(writer: RecordSchema, number: int, offset: int, at: int) -> reference.Record:
    sale = {
        "transaction_id": offset, "store_id": 1, "event_time": at, "customer_id": 1, "product_id": 1, "quantity": 1,
        "unit_price": 1.0, "total_amount": 1.0, "payment_method": "Cash", "discount_applied": 0.0, "tax_amount": 0.0,
    }  # fmt: skip
    headers = ((SOURCE_OFFSET.encode(), struct.pack(">q", offset)),)
    return reference.Record(offset, at // 1000, b"1", frame(number, encode(writer.plain, sale)), headers)


def _piece(sales: list[reference.Record]) -> Columns:
    """Some sales as one batch of Kafka, read."""
    first, start, count = sales[0].offset, sales[0].timestamp, len(sales)
    body = b"".join(reference.encode(s, first, start) for s in sales)
    rest = (0, count - 1, start, sales[-1].timestamp, -1, 0, 0, count)
    checksum = calc_crc32c(CHECKED.pack(*rest) + body)
    batch = HEADER.pack(first, HEADER_BYTES - 12 + len(body), 0, 2, checksum, *rest) + body
    (piece,) = pieces(record_set(CLEAN, 0, batch, 0))
    return piece
