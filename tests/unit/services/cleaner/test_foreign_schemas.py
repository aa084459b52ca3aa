"""Schemas of other producers: what is clean has our types, and what cannot be resolved is a dead letter by itself."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from retail_stream.avro.decode import RecordSchema, encode, frame, schema_id
from retail_stream.avro.decoder import HEADER_BYTES
from retail_stream.avro.registry import SchemaRefused
from retail_stream.avro.schema import AvroSchema, plain_schema
from retail_stream.avro.types import parse
from retail_stream.entities import Entity
from services.cleaner.clean import Cleaned, clean
from services.cleaner.targets import CleanSchemas
from tests.harness.examples import Raw, examples, schema

FOREIGN = 20


class Registry:
    """Gives every schema an id of its own, and refuses those that a test names."""

    def __init__(self, refused: str = "nothing") -> None:
        self.schemas: dict[int, AvroSchema] = {}
        self._refused = refused

    def register(self, subject: str, schema: AvroSchema, compatibility: str) -> int:
        if self._refused in json.dumps(schema):
            raise SchemaRefused(f"The schema registry refuses a schema for {subject}.")
        number = 100 + len(self.schemas)
        self.schemas[number] = schema
        return number


def good(entity: Entity) -> tuple[dict[str, Any], Raw]:
    example = next(e for e in examples("valid") if e.entity is entity and e.value and not e.defaults)
    return dict(example.value or {}), example.raw


def cleaned(entity: Entity, writer: Any, *bodies: bytes, refused: str = "nothing") -> tuple[Cleaned, list[Any]]:
    """What becomes of records, and the clean ones as dicts; each clean schema needs no other."""
    _, raw = good(entity)
    reader, registry = RecordSchema(schema(entity, "raw")), Registry(refused)
    writers = {FOREIGN: RecordSchema(writer)}
    targets = CleanSchemas(registry, entity, reader, lambda ask: ask()).get(writers)  # type: ignore[arg-type]
    n = len(bodies)
    values = [frame(FOREIGN, body) for body in bodies]
    made = clean(
        entity, Raw(entity, values, [*raw.keys] * n, [*raw.timestamps] * n).columns(), writers, reader, targets
    )
    records = []
    for value in map(made.columns.value, made.good.tolist()):
        own = registry.schemas[schema_id(value) or 0]
        parse(own)
        assert [*map(str, own["fields"])][: len(schema(entity, "clean")["fields"])] == [
            *map(str, schema(entity, "clean")["fields"])
        ]
        records.append(RecordSchema(own).record((value or b"")[HEADER_BYTES:]))
    return made, records


def changed(entity: Entity, *more: Mapping[str, Any], **types: Any) -> dict[str, Any]:
    raw = schema(entity, "raw")
    fields = [{**f, "type": types.get(f["name"], f["type"])} for f in raw["fields"]]
    return {**raw, "fields": [*fields, *more]}


def body(writer: dict[str, Any], **values: Any) -> bytes:
    fields = [{"name": f["name"], "type": f["type"]} for f in plain_schema(writer)["fields"]]
    return encode({**writer, "fields": fields}, values)


def test_a_nullable_writer_field_costs_only_the_records_that_hold_null() -> None:
    sale, _ = good(Entity.SALES)
    writer = changed(Entity.SALES, quantity=["int", "null"])
    made, records = cleaned(
        Entity.SALES, writer, body(writer, **sale), body(writer, **{**sale, "quantity": None}), body(writer, **sale)
    )
    assert records == [sale, sale]
    assert {row: r.rules for row, r in made.rejected.items()} == {1: ("valid_avro",)}
    assert "Field quantity: the writer's null" in str(made.rejected[1])
    assert "cannot be read as the reader's int" in str(made.rejected[1])


def test_a_required_field_that_the_writer_lacks_is_named() -> None:
    customer, _ = good(Entity.CUSTOMERS)
    writer = {**schema(Entity.CUSTOMERS, "raw")}
    writer["fields"] = [f for f in writer["fields"] if f["name"] != "age"]
    made, _ = cleaned(Entity.CUSTOMERS, writer, body(writer, **customer))
    assert made.rejected[0].rules == ("valid_avro",)
    assert "Field age is missing" in str(made.rejected[0])


@pytest.mark.parametrize(("unit", "of_micros"), [("millis", 1 / 1000), ("micros", 1), ("nanos", 1000)])
def test_times_of_any_unit_become_microseconds(unit: str, of_micros: float) -> None:
    sale, _ = good(Entity.SALES)
    sale["event_time"] = sale["event_time"] // 1000 * 1000
    writer = changed(Entity.SALES, event_time={"type": "long", "logicalType": f"timestamp-{unit}"})
    _, records = cleaned(
        Entity.SALES, writer, body(writer, **{**sale, "event_time": int(sale["event_time"] * of_micros)})
    )
    assert records == [sale]


def test_a_plain_long_is_not_a_time() -> None:
    sale, _ = good(Entity.SALES)
    writer = changed(Entity.SALES, event_time="long")
    made, _ = cleaned(Entity.SALES, writer, body(writer, **sale))
    assert "Field event_time: the writer's long cannot be read as" in str(made.rejected[0])


def test_other_order_and_other_types_are_written_anew_by_our_schema_with_the_extra_fields_bytes() -> None:
    store, _ = good(Entity.STORES)
    union = {"name": "row", "type": ["null", "double", "long"]}
    writer = changed(Entity.STORES, union, manager="string", store_id=["null", "int"])
    writer["fields"].reverse()
    made, records = cleaned(Entity.STORES, writer, b"\x04\x03" + body(
        {**writer, "fields": writer["fields"][1:]}, **store
    ))  # fmt: skip
    assert records == [{**store, "row": -2}]
    assert (made.columns.value(0) or b"").endswith(b"\x04\x03"), "the union's branch stays"


@pytest.mark.parametrize("name", ["user", "row", "key", "__header", "record_time", "value"])
def test_an_extra_field_may_have_any_name(name: str) -> None:
    product, _ = good(Entity.PRODUCTS)
    writer = changed(Entity.PRODUCTS, {"name": name, "type": ["null", "string"]})
    bodies = [body(writer, **product, **{name: text}) for text in ("a", "nul \0", None)]
    made, records = cleaned(Entity.PRODUCTS, writer, *bodies)
    assert records == [{**product, name: "a"}, {**product, name: "nul \0"}, {**product, name: None}]
    assert not made.rejected


@pytest.mark.parametrize("value", [1.764504e9, float("inf"), float("nan"), -1e300])
def test_the_limits_of_amounts_are_those_of_known_fields(value: float) -> None:
    product, _ = good(Entity.PRODUCTS)
    writer = changed(Entity.PRODUCTS, {"name": "counted_at", "type": "double"})
    made, records = cleaned(Entity.PRODUCTS, writer, body(writer, **product, counted_at=value))
    assert not made.rejected
    assert [str(r["counted_at"]) for r in records] == [str(value)]
    made, _ = cleaned(Entity.PRODUCTS, writer, body(writer, **{**product, "price": value}, counted_at=0.0))
    assert {row: r.rules for row, r in made.rejected.items()} == {0: ("amounts_in_range",)}


def test_a_decimal_inside_an_optional_record_is_copied() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
    cost = {"type": "record", "name": "Cost", "fields": [{"name": "amount", "type": decimal}]}
    product, _ = good(Entity.PRODUCTS)
    writer = changed(Entity.PRODUCTS, {"name": "cost", "type": ["null", cost]})
    known = body(schema(Entity.PRODUCTS, "raw"), **product)
    _, records = cleaned(Entity.PRODUCTS, writer, known + b"\x02\x04\x00\x80")
    assert records == [{**product, "cost": {"amount": b"\0\x80"}}]


def test_of_a_union_at_top_level_the_branch_that_can_be_read_is_clean_and_the_other_a_dead_letter() -> None:
    sale, _ = good(Entity.SALES)
    refund = {"type": "record", "name": "Refund", "fields": [{"name": "id", "type": "long"}]}
    made, records = cleaned(
        Entity.SALES,
        [refund, schema(Entity.SALES, "raw")],
        b"\x02" + body(schema(Entity.SALES, "raw"), **sale),
        b"\0\2",
    )
    assert records == [sale]
    assert {row: r.rules for row, r in made.rejected.items()} == {1: ("valid_avro",)}


def test_defaults_that_are_not_valid_harm_only_those_that_need_them() -> None:
    sale, _ = good(Entity.SALES)
    writer = changed(Entity.SALES, {"name": "channel", "type": "string", "default": 5})
    assert cleaned(Entity.SALES, writer, body(writer, **sale, channel="app"))[1] == [{**sale, "channel": "app"}]


@pytest.mark.parametrize("writer", ["string", ["null", "int"], {"type": "record"}, {"type": "enum", "name": "E"}, 7])
def test_a_schema_that_is_not_a_record_rejects_its_records(writer: Any) -> None:
    made, _ = cleaned(Entity.SALES, writer, b"", b"\0")
    assert [r.rules for r in made.rejected.values()] == [("valid_avro",)] * 2


def test_what_the_registry_refuses_is_a_dead_letter_with_the_other_reasons() -> None:
    sale, _ = good(Entity.SALES)
    writer = changed(Entity.SALES, {"name": "channel", "type": "string"})
    bodies = [body(writer, **{**sale, "discount_applied": d}, channel="app") for d in (0.0, -1.0)]
    made, _ = cleaned(Entity.SALES, writer, *bodies, refused="channel")
    assert {row: r.rules for row, r in made.rejected.items()} == {
        0: ("schema_forwardable",),
        1: ("schema_forwardable", "discount_not_negative"),
    }
    assert "refuses a schema for sales.clean-value" in str(made.rejected[0])


def test_a_blank_field_of_a_writer_with_our_clean_types_gets_its_default() -> None:
    store, _ = good(Entity.STORES)
    writer = changed(Entity.STORES, manager="string")
    _, records = cleaned(
        Entity.STORES, writer, body(writer, **store), body(writer, **{**store, "manager": " "}), body(writer, **store)
    )
    assert [r["manager"] for r in records] == [store["manager"], "Unknown", store["manager"]]
