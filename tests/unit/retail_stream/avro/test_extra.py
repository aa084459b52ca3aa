"""Fields that only the writer has: as JSON, and as columns of those whose values Postgres limits."""

import struct

import numpy as np

from retail_stream.avro import extra
from retail_stream.avro.schema import Holds
from tests.harness.avro_reading import read, record, text

READER = record(("id", "int"))


def test_extra_fields_are_json_of_what_is_not_null() -> None:
    writer = record(
        ("id", "int"),
        ("tags", {"type": "array", "items": "string"}),
        ("user", ["null", "string"]),
        ("__photo", "bytes"),
        ("cost", ["null", record(("amount", {"type": "bytes", "logicalType": "decimal", "precision": 4}), name="C")]),
    )
    full = b"\x02" + b"\x02" + text("a") + b"\0" + b"\x02" + text("é") + text(b"\x80") + b"\x02" + text(b"\0\x80")
    decoded = read(READER, writer, full, b"broken", b"\x04\0\0\0\0")
    assert extra.texts(decoded).to_list() == [
        '{"__photo":"\x80","cost":{"amount":"\\u0000\x80"},"tags":["a"],"user":"é"}',
        '{"__photo":"","tags":[]}',
    ]


def test_a_writer_without_extra_fields_has_no_json() -> None:
    assert extra.texts(read(READER, READER, b"\x02", b"\x04")).to_list() == [None, None]


def test_texts_amounts_and_times_are_columns_whatever_their_names_and_order() -> None:
    moment = {"type": "long", "logicalType": "timestamp-micros"}
    writer = record(("row", ["string", "null"]), ("id", "int"), ("__header", "float"), ("at", moment), ("n", "long"))
    first = b"\0" + text("x") + b"\x02" + struct.pack("<f", 0.5) + b"\x06" + b"\x08"
    second = b"\x02" + b"\x04" + struct.pack("<f", 2) + b"\x05" + b"\x08"
    decoded = read(READER, writer, first, b"", second)
    found = {held: (rows.tolist(), values.to_list()) for held, rows, values in extra.limited(decoded)}
    assert found == {
        Holds.TEXT: ([0, 2], ["x", None]),
        Holds.AMOUNT: ([0, 2], [0.5, 2.0]),
        Holds.TIME: ([0, 2], [3, -3]),
    }


def test_a_union_of_several_values_and_other_types_are_not_judged() -> None:
    writer = record(("id", "int"), ("u", ["null", "string", "double"]), ("b", "bytes"), ("f", "boolean"))
    decoded = read(READER, writer, b"\x02\0\0\0")
    assert list(extra.limited(decoded)) == []
    assert np.array_equal(decoded.rows, [0])
