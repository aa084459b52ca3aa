"""From records of a clean topic to changes of a dimension, and what a dimension's declaration says."""

import polars as pl
import pytest
from confluent_kafka import Message

from retail_stream.batches import table
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.errors import PoisonRecord
from retail_stream.kafka import SEQUENCE_TIME, as_big_endian
from retail_stream.wire import Writer, encode, frame
from services.scd_merger.dimensions import Kind, clean_schema, declare, dimensions
from services.scd_merger.events import changes

STORES = declare(Entity.STORES, clean_schema(Entity.STORES))
WRITER = Writer(clean_schema(Entity.STORES))


class OneSchema:
    def get(self, ids: object) -> dict[int, Writer]:
        return {7: WRITER}


def store(offset: int, time: int, name: str = "Soho") -> Message:
    record = {"store_id": 3, "name": name, "address": "1 High Street", "manager": "Unknown", "open_date": 5}
    record |= {"status": "open", "phone_number": "+44", "last_update_time": time}
    value = frame(7, encode(WRITER.plain, record))
    return Message("stores.clean", 0, offset, b"3", value, timestamp=(1, 9_000))


def tombstone(offset: int, key: bytes | None, sequence: int | None = None) -> Message:
    headers = [] if sequence is None else [(SEQUENCE_TIME, as_big_endian(sequence))]
    return Message("stores.clean", 0, offset, key, None, headers, timestamp=(1, 9_000))


def read(*messages: Message) -> pl.DataFrame:
    rows = table(messages, OneSchema(), WRITER)  # type: ignore[arg-type]
    return changes(STORES, rows, ("stores.clean", 0))


def test_an_upsert_keeps_its_attributes_and_a_tombstone_has_none() -> None:
    assert read(store(0, 42), tombstone(1, b"3", 43)).rows() == [
        (3, 42, False, "Soho", "1 High Street", "Unknown", 5, "open", "+44"),
        (3, 43, True, *[None] * 6),
    ]


def test_a_tombstone_without_a_sequence_time_happened_at_its_timestamp() -> None:
    assert read(tombstone(0, b"12"))["last_update_time"].to_list() == [9_000_000]


@pytest.mark.parametrize("key", [None, b"", b"x", b"1.5", b"\xff", b" 1"])
def test_a_tombstone_whose_key_is_no_number_is_named(key: bytes | None) -> None:
    with pytest.raises(PoisonRecord, match=r"stores\.clean/0@8"):
        read(store(7, 1), tombstone(8, key))


def test_attributes_are_the_clean_fields_in_order_without_key_and_sequence() -> None:
    for dimension in dimensions():
        names = [f["name"] for f in clean_schema(dimension.entity)["fields"]]
        assert [dimension.key, *dimension.attributes, dimension.sequence] == names
    assert [d.entity for d in dimensions()] == list(DIMENSIONS)


def test_kinds_follow_the_schema() -> None:
    products = declare(Entity.PRODUCTS, clean_schema(Entity.PRODUCTS))
    assert products.of_kind(Kind.MONEY) == ["price"]
    assert STORES.of_kind(Kind.TIME) == ["open_date"]
    assert (STORES.table, STORES.changes_table, STORES.surrogate) == ("dim_stores", "stores_changes", "store_sk")
