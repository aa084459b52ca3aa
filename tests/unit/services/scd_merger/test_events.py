"""From records of a clean topic to changes of a dimension, and what a dimension's declaration says."""

import re
from collections.abc import Mapping

import polars as pl
import pytest

from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.entities import DIMENSIONS, Entity, Fields
from retail_stream.errors import PoisonRecord, SettingsError
from retail_stream.kafka.batches import table
from retail_stream.kafka.headers import SEQUENCE_TIME, as_big_endian
from retail_stream.kafka.record_batches.reference import Record
from services.scd_merger.dimensions import AttributeType, clean_schema, declare, dimensions
from services.scd_merger.events import changes
from services.scd_merger.kept import with_known_fields
from services.scd_merger.merge import Neighbours, merge, winners
from tests.harness.record_batches import columns

STORES = declare(Entity.STORES, clean_schema(Entity.STORES))
WRITER = RecordSchema(clean_schema(Entity.STORES))


class OneSchema:
    def get(self, ids: object) -> dict[int, RecordSchema]:
        return {7: WRITER}


def store(offset: int, time: int, name: str = "Soho") -> Record:
    record = {"store_id": 3, "name": name, "address": "1 High Street", "manager": "Unknown", "open_date": 5}
    record |= {"status": "open", "phone_number": "+44", "last_update_time": time}
    value = frame(7, encode(WRITER.plain, record))
    return Record(offset, 9_000, b"3", value, ())


def tombstone(offset: int, key: bytes | None, sequence: int | None = None) -> Record:
    headers = () if sequence is None else ((SEQUENCE_TIME.encode(), as_big_endian(sequence)),)
    return Record(offset, 9_000, key, None, headers)


def read(*records: Record) -> pl.DataFrame:
    rows = table([columns("stores.clean", 0, records)], OneSchema(), WRITER, keep_extra=True)  # type: ignore[arg-type]
    return changes(STORES, rows, ("stores.clean", 0))


def test_an_upsert_keeps_its_attributes_and_a_tombstone_has_none() -> None:
    assert read(store(0, 42), tombstone(1, b"3", 43)).rows() == [
        (3, 42, False, "Soho", "1 High Street", "Unknown", 5, "open", "+44", None),
        (3, 43, True, *[None] * 7),
    ]


def test_a_tombstone_without_a_sequence_time_happened_at_its_timestamp() -> None:
    assert read(tombstone(0, b"12"))["last_update_time"].to_list() == [9_000_000]


@pytest.mark.parametrize("key", [None, b"", b"x", b"1.5", b"\xff", b" 1"])
def test_a_tombstone_whose_key_is_not_a_number_is_named(key: bytes | None) -> None:
    with pytest.raises(PoisonRecord, match=r"stores\.clean/0@8"):
        read(store(7, 1), tombstone(8, key))


def test_attributes_are_the_clean_fields_in_order_without_key_and_sequence() -> None:
    for dimension in dimensions():
        names = [f["name"] for f in clean_schema(dimension.entity)["fields"]]
        assert [dimension.key, *dimension.attributes, dimension.sequence] == names
    assert [d.entity for d in dimensions()] == list(DIMENSIONS)


def test_attribute_types_follow_the_schema() -> None:
    products = declare(Entity.PRODUCTS, clean_schema(Entity.PRODUCTS))
    assert products.of_type(AttributeType.MONEY) == ["price"]
    assert STORES.of_type(AttributeType.TIME) == ["open_date"]
    assert (STORES.table, STORES.changes_table, STORES.surrogate) == ("dim_stores", "stores_changes", "store_sk")


def newer(*fields: Mapping[str, object]) -> RecordSchema:
    return RecordSchema({**WRITER.schema, "fields": [*WRITER.schema["fields"], *fields]})


def test_fields_that_the_declaration_does_not_know_are_kept_as_json() -> None:
    optional = [{"name": n, "type": ["null", t], "default": None} for n, t in (("tier", "string"), ("key", "int"))]
    tags = {"name": "tags", "type": ["null", {"type": "array", "items": "string"}], "default": None}
    first, second = newer(*optional), newer(*optional, tags)
    base = {
        "store_id": 3,
        "name": "Soho",
        "address": "",
        "manager": "",
        "open_date": 5,
        "status": "",
        "phone_number": "",
    }

    def of(offset: int, number: int, writer: RecordSchema, **more: object) -> Record:
        record = {**base, "last_update_time": offset, **more}
        return Record(offset, 9_000, b"3", frame(number, encode(writer.plain, record)), ())

    class Three:
        def get(self, ids: object) -> dict[int, RecordSchema]:
            return {7: WRITER, 8: first, 9: second}

    found = [
        of(0, 7, WRITER),
        of(1, 8, first, tier=None, key=None),
        of(2, 8, first, tier='a "b", é', key=4),
        of(3, 9, second, tier="gold", key=None, tags=["x", "y"]),
        tombstone(4, b"3", 9),
    ]
    rows = table([columns("stores.clean", 0, found)], Three(), WRITER, keep_extra=True)  # type: ignore[arg-type]
    assert changes(STORES, rows, ("stores.clean", 0))["extra"].to_list() == [
        None,
        None,
        '{"key":4,"tier":"a \\"b\\", é"}',
        '{"tags":["x","y"],"tier":"gold"}',
        None,
    ]


def test_a_field_that_older_writers_do_not_know_has_its_default() -> None:
    reader = newer({"name": "tier", "type": ["null", "string"], "default": None})
    assert table([columns("stores.clean", 0, [store(0, 1)])], OneSchema(), reader)["tier"].to_list() == [None]  # type: ignore[arg-type]


def test_what_was_kept_moves_into_its_column_and_wins_against_what_is_stored() -> None:
    schema = newer({"name": "tier", "type": ["null", "string"], "default": None}).schema
    today = declare(Entity.STORES, schema)
    kept = pl.DataFrame(
        [(3, 42, False, "Soho", "", "", 5, "", "", None, '{"tags":["x"],"tier":"gold"}')],
        schema=today.change_schema,
        orient="row",
    )
    again = with_known_fields(today, kept)
    assert again.rows() == [(3, 42, False, "Soho", "", "", 5, "", "", "gold", '{"tags":["x"]}')]
    assert winners(today, pl.concat([again, kept])).rows() == again.rows()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            Fields("store_id", "last_update_time", history_except=("nam",)),
            "'nam' is not an attribute that can have a history; allowed: name,",
        ),
        (
            Fields("store_id", "last_update_time", ("name",), ("status",)),
            "history_on and history_except are both set; allowed: one of them",
        ),
        (Fields("shop_id", "last_update_time"), "the schema has no field 'shop_id'; allowed: store_id,"),
    ],
)
def test_a_declaration_that_does_not_fit_its_schema_is_refused(fields: Fields, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        declare(Entity.STORES, clean_schema(Entity.STORES), fields)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"name": "photo", "type": "bytes"}, "field 'photo' has the type 'bytes'; allowed: int,"),
        (
            {"name": "valid_to", "type": "string"},
            "field 'valid_to' has the name of a column that every dimension has; allowed: another name",
        ),
        ({"name": "stars", "type": "int", "default": 3}, "field 'stars' has the default 3; allowed: null or none"),
    ],
)
def test_a_field_that_no_column_can_be_made_for_is_refused(field: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        declare(Entity.STORES, newer(field).schema)


def test_history_on_names_the_tracked_attributes_and_the_rest_is_untracked() -> None:
    some = declare(
        Entity.STORES, clean_schema(Entity.STORES), Fields("store_id", "last_update_time", ("name", "status"))
    )
    assert some.tracked == ["name", "status"]
    assert some.untracked == ("address", "manager", "open_date", "phone_number")


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_two_changes_that_differ_only_in_what_is_kept_the_larger_wins(order: tuple[str, str]) -> None:
    first, second = (read(store(0, 42)).with_columns(extra=pl.lit(f'{{"tier":"{tier}"}}')) for tier in order)
    span = pl.DataFrame(schema=dict.fromkeys(("store_id", "valid_from", "valid_to"), pl.Int64))
    plan = merge(STORES, first, Neighbours(first.clear(), span))
    stored = Neighbours(plan.added, plan.opened.select(span.columns))
    later = merge(STORES, second, stored)
    assert pl.concat([plan.added, later.replaced])["extra"].to_list()[-1] == '{"tier":"b"}'
    assert later.opened.is_empty()
