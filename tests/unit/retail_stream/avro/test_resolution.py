"""What a writer's schema means to a reader: values, verdicts, and the sentences of dead letters."""

import json
import struct
from typing import Any

import pytest

from retail_stream.avro.reader import Reader
from retail_stream.avro.types import SchemaError
from tests.harness.avro_reading import read, record, text
from tests.harness.avro_values import varint

TIME = {"type": "long", "logicalType": "timestamp-micros"}


def one(reader_type: Any, writer_type: Any, body: bytes) -> Any:
    """The value of a field ``f`` of these types, or the sentence."""
    decoded = read(record(("f", reader_type)), record(("f", writer_type)), body)
    return decoded.bad[0] if decoded.bad else decoded.table["f"][0]


F32, F64 = struct.pack("<f", 1.5), struct.pack("<d", 1.5)


@pytest.mark.parametrize(
    ("writer", "reader", "body", "value"),
    [
        ("int", "long", varint(-7), -7),
        ("int", "float", varint(16777217), 16777216.0),
        ("int", "double", varint(16777217), 16777217.0),
        ("long", "float", varint(2**53 + 1), 2.0**53),
        ("long", "double", varint(2**53 + 1), 2.0**53),
        ("float", "double", F32, 1.5),
        ("double", "double", F64, 1.5),
        ("string", "bytes", text("é"), "é".encode()),
        ("bytes", "string", text("é"), "é"),
        ("boolean", "boolean", b"\1", True),
        ({"type": "string", "logicalType": "uuid"}, "string", text("x" * 13), "x" * 13),
        ({"type": "int", "logicalType": "date"}, "int", varint(3), 3),
        ({"type": "int", "logicalType": "no such"}, "int", varint(3), 3),
    ],
)
def test_a_type_is_read_as_a_wider_one(writer: Any, reader: Any, body: bytes, value: Any):
    assert one(reader, writer, body) == value


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ("long", "int"),
        ("double", "float"),
        ("float", "long"),
        ("string", "int"),
        ("int", "boolean"),
        ("null", "string"),
    ],
)
def test_a_type_is_not_read_as_a_narrower_or_another_one(writer: str, reader: str):
    sentence = f"schema id 7: Field f: the writer's {writer} cannot be read as the reader's {reader}."
    assert one(reader, writer, b"\0" * 8) == sentence


@pytest.mark.parametrize(
    ("unit", "number", "micros"),
    [
        ("millis", 1_500, 1_500_000),
        ("micros", 1_500, 1_500),
        ("nanos", 1_999, 1),
        ("nanos", -1, -1),
        ("millis", -1, -1000),
    ],
)
@pytest.mark.parametrize("local", ["", "local-"])
def test_a_time_of_any_unit_becomes_microseconds(local: str, unit: str, number: int, micros: int):
    assert one(TIME, {"type": "long", "logicalType": f"{local}timestamp-{unit}"}, varint(number)) == micros


@pytest.mark.parametrize("number", [2**63 // 1000 + 1, -(2**63) // 1000, 2**63 - 1])
def test_a_time_that_64_bits_of_microseconds_cannot_hold_is_an_error(number: int):
    sentence = one(TIME, {"type": "long", "logicalType": "timestamp-millis"}, varint(number))
    why = "a value of the writer's long (timestamp-millis) is beyond the reader's long (timestamp-micros)."
    assert sentence == f"schema id 7: Field f: {why}"


@pytest.mark.parametrize(
    ("writer", "shown"),
    [
        ("long", "long"),
        ("int", "int"),
        ({"type": "int", "logicalType": "date"}, "int (date)"),
        ({"type": "long", "logicalType": "time-micros"}, "long (time-micros)"),
        ({"type": "int", "logicalType": "timestamp-millis"}, "int"),
    ],
)
def test_a_number_that_is_no_timestamp_is_not_read_as_a_time(writer: Any, shown: str):
    wanted = "the reader's long (timestamp-micros)"
    assert one(TIME, writer, b"\0") == f"schema id 7: Field f: the writer's {shown} cannot be read as {wanted}."


def test_the_bytes_of_a_decimal_are_not_read_as_text():
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 4}
    assert one("string", decimal, text("12")).endswith(
        "the writer's bytes (decimal) cannot be read as the reader's string."
    )


def test_a_nullable_field_fails_only_for_the_records_that_hold_null():
    writer = record(("quantity", ["int", "null"]), ("note", ["null", "string"]))
    reader = record(("quantity", "int"))
    decoded = read(reader, writer, b"\0" + varint(5) + b"\0", b"\2\0", b"\0" + varint(6) + b"\2" + text("x"))
    assert decoded.table.to_dicts() == [{"quantity": 5}, {"quantity": 6}]
    why = "Field quantity: the writer's null, a branch of its union of int, null, cannot be read as the reader's int."
    assert decoded.bad == {1: f"schema id 7: {why}"}


def test_each_branch_of_a_union_is_read_by_its_own_type():
    union: list[Any] = [
        "null",
        "string",
        "long",
        "double",
        {"type": "record", "name": "Home", "namespace": "", "fields": []},
    ]
    decoded = read(
        record(("f", ["double", "null"])),
        record(("f", union)),
        varint(0),
        varint(1) + text("x"),
        varint(2) + varint(3),
        varint(3) + F64,
        varint(4),
        varint(5),
    )
    assert decoded.table["f"].to_list() == [None, 3.0, 1.5]
    shown = "union of null, string, long, double, record Home"
    assert decoded.bad == {
        1: f"schema id 7: Field f: the writer's string, a branch of its {shown}, cannot be read as the reader's "
        "union of null, double.",
        4: f"schema id 7: Field f: the writer's record Home, a branch of its {shown}, cannot be read as the reader's "
        "union of null, double.",
        5: "not one Avro record of schema id 7: field f names a branch that its union does not have",
    }


def test_an_empty_union_has_no_values_and_stops_nothing():
    decoded = read(record(("f", "int")), record(("f", "int"), ("extra", [])), varint(1) + b"\0")
    assert decoded.bad == {
        0: "not one Avro record of schema id 7: field extra names a branch that its union does not have"
    }


def test_a_missing_field_gets_the_readers_default():
    reader = record(
        {"name": "a", "type": "string", "default": "a default that is longer than a view"},
        {"name": "b", "type": ["null", "int"], "default": None},
        {"name": "c", "type": ["null", "int"], "default": 3},
        {"name": "d", "type": "bytes", "default": "ÿ"},
        {"name": "e", "type": "double", "default": 1},
        ("f", "int"),
    )
    row = {"a": "a default that is longer than a view", "b": None, "c": 3, "d": b"\xff", "e": 1.0, "f": 9}
    assert read(reader, record(("f", "int")), varint(9)).table.to_dicts() == [row]


@pytest.mark.parametrize("default", ["x", None, 2**31, 1.5, True, [], {}])
def test_a_default_that_is_not_valid_is_no_default(default: Any):
    decoded = read(record({"name": "f", "type": "int", "default": default}), record(("g", "int")), varint(1))
    expected = "the reader expects int and has no default."
    assert decoded.bad == {0: f"schema id 7: Field f is missing in the writer's record retail_stream.Sale; {expected}"}


def test_defaults_of_the_writer_do_not_matter():
    writer = record({"name": "f", "type": "int", "default": "no int"}, {"name": "g", "type": "string", "default": {}})
    assert read(record(("f", "int")), writer, varint(1) + text("")).table["f"].to_list() == [1]


def test_a_field_is_found_by_the_readers_alias_unless_its_name_is_there():
    reader = record({"name": "quantity", "type": "int", "aliases": ["qty"]})
    assert read(reader, record(("qty", "int")), varint(1)).table["quantity"].to_list() == [1]
    both = read(reader, record(("qty", "int"), ("quantity", "int")), varint(1) + varint(2))
    assert both.table["quantity"].to_list() == [2]
    assert both.extra_fields(both.parts[0], 0) == {"qty": varint(1)}
    renamed = read(reader, record(("qty", "string")), text("x"))
    assert "Field quantity (the writer's qty): the writer's string cannot be read" in renamed.bad[0]


def test_records_match_by_their_names_without_namespaces_or_by_the_readers_alias():
    reader = record(("f", "int"), aliases=["Receipt"])
    for name in ("com.acme.Sale", "Sale", "retail_stream.Receipt"):
        assert not read(reader, record(("f", "int"), name=name), varint(1)).bad
    for name in ("com.acme.Receipt", "retail_stream.Refund"):
        bad = read(reader, record(("f", "int"), name=name), varint(1)).bad
        assert bad == {0: f"schema id 7: The writer's record {name} cannot be read as the record retail_stream.Sale."}


def test_of_a_union_at_top_level_only_the_branches_that_fit_are_read():
    writer = ["null", record(("reason", "string"), name="Refund"), record(("f", "int"), ("g", "string"))]
    decoded = read(record(("f", "int")), writer, b"\0", b"\2" + text("x"), b"\4" + varint(5) + text("y"), b"\6")
    assert decoded.table["f"].to_list() == [5]
    assert decoded.extra_fields(decoded.parts[0], 0) == {"g": text("y")}
    assert decoded.bad == {
        0: "schema id 7: The writer's null cannot be read as the record retail_stream.Sale.",
        1: "schema id 7: The writer's record Refund cannot be read as the record retail_stream.Sale.",
        3: "not one Avro record of schema id 7: the record names a branch that its union does not have",
    }


def test_an_enum_is_read_by_symbols_and_an_unknown_one_by_the_readers_default():
    writer = {"type": "enum", "name": "com.acme.Size", "symbols": ["XL", "S", "M"]}
    reader = {"type": "enum", "name": "Size", "symbols": ["S", "M", "L"]}
    decoded = read(record(("f", reader)), record(("f", writer)), varint(1), varint(0), varint(3))
    assert decoded.table["f"].to_list() == ["S"]
    assert decoded.bad == {
        1: "schema id 7: Field f: XL of the writer's enum com.acme.Size is not a symbol of the reader's "
        "enum retail_stream.Size.",
        2: "not one Avro record of schema id 7: field f names a symbol that its enum does not have",
    }
    assert one({**reader, "default": "L"}, writer, varint(0)) == "L"
    other = "schema id 7: Field f: the writer's enum Colour cannot be read as the reader's enum retail_stream.Size."
    assert one(reader, {**writer, "name": "Colour", "namespace": ""}, varint(0)) == other


def test_a_fixed_is_read_by_name_and_size():
    fixed = {"type": "fixed", "name": "Hash", "size": 13}
    assert one(fixed, fixed, b"x" * 13) == b"x" * 13
    assert "cannot be read" in one(fixed, {**fixed, "size": 12}, b"x" * 12)


def test_types_of_other_subjects_are_read_through_their_references():
    references: dict[str, Any] = {
        "com.acme.Money": json.dumps(record(("cents", "com.acme.Cents"), name="com.acme.Money")),
        "com.acme.Cents": {"type": "fixed", "name": "com.acme.Cents", "size": 2},
    }
    writer = record(("price", "com.acme.Money"), ("again", ["null", "com.acme.Cents"]), ("f", "int"))
    decoded = read(record(("f", "int")), writer, b"xx" + b"\2yy" + varint(4), references=references)
    assert decoded.table["f"].to_list() == [4]
    assert decoded.extra_fields(decoded.parts[0], 0) == {"price": b"xx", "again": b"\2yy"}
    missing = read(record(("f", "int")), writer, b"", references={"com.acme.Money": references["com.acme.Money"]})
    why = "The writer's schema names the type com.acme.Cents, which neither it nor its references declare."
    assert missing.bad == {0: f"schema id 7: {why}"}


def test_names_that_are_words_of_sql_or_internal_names_are_names():
    names: list[str] = ["user", "row", "key", "select", "__nested", "__row", "order"]
    reader = record(*((n, "int") for n in names))
    decoded = read(reader, record(*((n, "int") for n in reversed(names))), b"".join(map(varint, range(7))))
    assert decoded.table.to_dicts() == [{n: 6 - i for i, n in enumerate(names)}]


def test_sentences_have_a_bounded_length():
    union = [{"type": "record", "name": f"R{i}", "fields": []} for i in range(500)]
    assert len(read(record(("f", "int")), record(("f", union)), b"\0").bad[0]) < 300


@pytest.mark.parametrize("field", [["int", "string"], {"type": "array", "items": "int"}, ["null"], "null"])
def test_a_reader_has_only_fields_that_are_columns(field: Any):
    with pytest.raises(SchemaError, match=r"has the field f of type .*, which is not a column"):
        Reader(record(("f", field)))
