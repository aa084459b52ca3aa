"""Products as changes, as clean records and as rows: what the tests of the merger share."""

from collections.abc import Mapping

import polars as pl
from sqlalchemy import Engine, text

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.entities import Entity
from retail_stream.kafka.headers import SEQUENCE_TIME, SOURCE_OFFSET, as_big_endian
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.kafka.record_batches.reference import Record
from services.scd_merger.batch import Merger
from services.scd_merger.dimensions import clean_schema, declare
from tests.harness.record_batches import columns
from tests.harness.scd_oracle import Event, Version
from tests.harness.unchanged_topics import UnchangedTopics

PRODUCTS = declare(Entity.PRODUCTS, clean_schema(Entity.PRODUCTS))
WRITER = RecordSchema(clean_schema(Entity.PRODUCTS))
TOPIC = PRODUCTS.topic
#: every time of these tests is this and a few microseconds
EPOCH = 1_700_000_000_000_000
REST = {
    "category": "Tops",
    "brand": "Aé",
    "stock_quantity": 1,
    "size": "M",
    "color": "",
    "description": 'a "b"\r\n\\.\n,',
}


def product(event: Event) -> dict[str, object]:
    key, at, _, name, price = event
    return {"product_id": key, "name": name, "price": price, **REST, "last_update_time": EPOCH + at}


def changes_of(events: list[Event]) -> pl.DataFrame:
    none = dict.fromkeys(PRODUCTS.attributes)
    rows = [product(e) | (none if e[2] else {}) | {"deleted": e[2]} for e in events]
    return pl.DataFrame(rows, schema=PRODUCTS.change_schema)


def versions(engine: Engine, keys: range) -> list[Version]:
    micros = "(extract(epoch FROM {0}) * 1000000)::bigint - {1}"
    sql = f"""
        SELECT product_id, {micros.format("valid_from", EPOCH)}, {micros.format("valid_to", EPOCH)}, name, price::float8
        FROM dim_products WHERE product_id >= :first AND product_id < :end ORDER BY product_id, valid_from
    """
    with engine.connect() as connection:
        return [tuple(r) for r in connection.execute(text(sql), {"first": keys.start, "end": keys.stop})]  # type: ignore[misc]


class OneSchema:
    def get(self, ids: object) -> Mapping[int, RecordSchema]:
        return {7: WRITER}


def clean_records(events: list[Event], first_offset: int = 0, sources: list[int] | None = None) -> list[Record]:
    """Clean records; their source offsets are ``sources``, or their own."""
    return [
        Record(
            offset,
            EPOCH // 1000,
            str(event[0]).encode(),
            None if event[2] else frame(7, encode(WRITER.plain, product(event))),
            (
                (SOURCE_OFFSET.encode(), as_big_endian(sources[i] if sources else offset)),
                (SEQUENCE_TIME.encode(), as_big_endian(EPOCH + event[1])),
            ),
        )
        for i, (offset, event) in enumerate(enumerate(events, first_offset))
    ]


def records(some: list[Record], partition: int = 0, end: int | None = None) -> PartitionRecords:
    return PartitionRecords((columns(TOPIC, partition, some),), some[0].offset, end or some[-1].offset + 1)


def merger(warehouse: Engine) -> Merger:
    return Merger(warehouse, [PRODUCTS], {TOPIC: OneSchema()}, UnchangedTopics())  # type: ignore[dict-item]


def stored_position(warehouse: Engine, partition: int = 0) -> tuple[int, int]:
    sql = text("SELECT next_offset, source_offset FROM consumer_positions WHERE partition = :partition")
    with warehouse.connect() as connection:
        return tuple(connection.execute(sql, {"partition": partition}).one())  # type: ignore[return-value]
