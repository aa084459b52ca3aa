"""Batches of framed values become frames: order, several schema ids, bad rows, text of every length."""

import gc
import io
import json
from random import Random
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pytest

from retail_stream.avro import reference
from retail_stream.avro.decode import encode, frame
from retail_stream.avro.decoder import NO_HEADER, Decoded, Schemas, Values, decode
from retail_stream.avro.reader import Reader
from retail_stream.avro.schema import plain_schema
from retail_stream.topics import SCHEMAS

OLD, NEW = 7, 9
SALES = json.loads((SCHEMAS / "raw" / "sales.avsc").read_text())
CUSTOMERS = json.loads((SCHEMAS / "raw" / "customers.avsc").read_text())
NEWER = {
    **SALES,
    "fields": [
        {"name": "channel", "type": ["null", "string"]},
        *SALES["fields"],
        {"name": "tags", "type": {"type": "map", "values": "long"}},
    ],
}
PLAIN, PLAIN_NEWER = plain_schema(SALES), plain_schema(NEWER)


def sale(i: int, **changes: Any) -> dict[str, Any]:
    numbers = {"transaction_id": i, "store_id": i % 5, "event_time": 10**15 + i, "customer_id": i, "product_id": -i}
    amounts = {"unit_price": i / 4, "total_amount": i / 2, "discount_applied": 0.0, "tax_amount": 0.1}
    return {**numbers, "quantity": 2, **amounts, "payment_method": "card", **changes}


def old(i: int, **changes: Any) -> bytes:
    return frame(OLD, encode(PLAIN, sale(i, **changes)))


def new(i: int) -> bytes:
    return frame(NEW, encode(PLAIN_NEWER, {**sale(i), "channel": "app" if i % 2 else None, "tags": {"a": i}}))


@pytest.fixture
def schemas() -> Schemas:
    known = Schemas(Reader(SALES))
    known.add(OLD, SALES)
    known.add(NEW, json.dumps(NEWER))
    return known


def rows(decoded: Decoded) -> list[dict[str, Any]]:
    return decoded.table.to_dicts()


def test_columns_are_the_readers_in_its_order_and_dtypes(schemas: Schemas):
    decoded = decode([old(1), new(2)], schemas)
    assert decoded.table.schema == schemas.reader.columns
    assert decoded.table.columns == [f["name"] for f in SALES["fields"]]
    assert (schemas.reader.columns["store_id"], schemas.reader.columns["event_time"]) == (pl.Int32(), pl.Int64())


def test_rows_of_several_schema_ids_are_in_the_order_of_the_values(schemas: Schemas):
    values = [new(i) if i % 3 == 0 else old(i) for i in range(50)]
    decoded = decode(values, schemas)
    assert rows(decoded) == [{c: sale(i)[c] for c in schemas.reader.columns} for i in range(50)]
    assert decoded.bad == {}
    newer = next(p for p in decoded.parts if p.schema_id == NEW)
    assert newer.rows.tolist() == list(range(0, 50, 3))
    assert [f.name for f in newer.extra] == ["channel", "tags"]
    assert decoded.extra_fields(newer, 1) == {"channel": b"\2\6app", "tags": b"\2\2a\6\0"}


def test_bad_values_are_reported_and_leave_their_neighbours_alone(schemas: Schemas):
    values = [
        old(0),
        None,
        b"",
        b"\0\0\0",
        b"\1\0\0\0\7",
        old(1)[:-1],
        old(2) + b"x",
        frame(4, b""),
        new(3)[:-1],
        new(4),
        old(5),
    ]
    decoded = decode(values, schemas)
    assert decoded.rows.tolist() == [0, 9, 10]
    assert decoded.numbered["row"].to_list() == [0, 9, 10]
    assert [row["transaction_id"] for row in rows(decoded)] == [0, 4, 5]
    assert decoded.bad == {
        **dict.fromkeys([1, 2, 3, 4], NO_HEADER),
        5: "not one Avro record of schema id 7: the record ends inside field tax_amount",
        6: "not one Avro record of schema id 7: 1 bytes follow the record's last field",
        7: "schema id 4 is not registered under the topic's subject",
        8: "not one Avro record of schema id 9: the record ends inside field tags",
    }
    assert {p.schema_id: p.rows.tolist() for p in decoded.parts} == {OLD: [0, 10], NEW: [9]}


@pytest.mark.parametrize(
    "text", ["", *("x" * n for n in (1, 3, 4, 5, 7, 8, 11, 12, 13, 63, 64, 300)), "é" * 6, "é" * 7, "日" * 999]
)
def test_text_of_every_length_is_read(schemas: Schemas, text: str):
    decoded = decode([old(0), old(1, payment_method=text), old(2)], schemas)
    assert decoded.table["payment_method"].to_list() == ["card", text, "card"]
    assert decoded.table["payment_method"].str.len_bytes().to_list() == [4, len(text.encode()), 4]


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xf0\x9f\x9b"]
)
@pytest.mark.parametrize("before", [0, 1, 5, 8, 13])
def test_text_that_is_not_utf8_is_bad(schemas: Schemas, bad: bytes, before: int):
    text = b"x" * before + bad
    good = old(1, payment_method="é" * len(text))[:-16]
    cut = good[: -2 * len(text) - 1] + bytes([2 * len(text)]) + text + old(1)[-16:]
    decoded = decode([old(0), cut, cut, old(2)], schemas)
    why = "not one Avro record of schema id 7: field payment_method holds text that is not UTF-8"
    assert decoded.bad == {1: why, 2: why}


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**40, 2**63 - 1])
def test_an_int_has_32_bits(number: int):
    reader = Reader({"type": "record", "name": "R", "fields": [{"name": "f", "type": "int"}]})
    known = Schemas(reader)
    known.add(OLD, reader.schema)
    wide = {"type": "record", "name": "R", "fields": [{"name": "f", "type": "long"}]}
    decoded = decode([frame(OLD, encode(wide, {"f": number}))], known)
    assert decoded.bad == {
        0: "not one Avro record of schema id 7: field f holds a number that is too long for its type"
    }


def test_a_varint_longer_than_it_needs_to_be_is_still_avro(schemas: Schemas):
    padded = frame(OLD, b"\x82\x80\x00" + encode(PLAIN, sale(1))[1:])
    assert rows(decode([padded], schemas)) == rows(decode([old(1)], schemas))


def test_a_frame_outlives_what_it_was_decoded_from(schemas: Schemas):
    table = decode([old(i, payment_method=f"a text of some length {i}") for i in range(1000)], schemas).table
    gc.collect()
    np.full(10**6, 255, np.uint8)
    assert table["payment_method"].to_list() == [f"a text of some length {i}" for i in range(1000)]
    assert table.filter(pl.col("payment_method").str.ends_with(" 77"))["transaction_id"].to_list() == [77]


def test_values_may_lie_anywhere_in_a_buffer_and_in_any_order(schemas: Schemas):
    first, second = old(1), new(2)
    buffer = np.frombuffer(b"??" + second + b"????" + first + b"!", np.uint8)
    begins = np.array([len(second) + 6, 2])
    values = Values(buffer, begins, begins + np.array([len(first), len(second)]))
    assert [row["transaction_id"] for row in rows(decode(values, schemas))] == [1, 2]


def test_an_empty_batch_has_the_readers_columns(schemas: Schemas):
    for values in ([], [None], [frame(4, b"x")]):
        decoded = decode(values, schemas)
        assert (decoded.table.height, decoded.table.schema) == (0, schemas.reader.columns)


def test_as_many_schema_ids_as_values_are_sorted_out(schemas: Schemas):
    ids = list(range(100, 3000))
    Random(1).shuffle(ids)
    decoded = decode([frame(i, b"x") for i in ids] + [old(1)], schemas)
    assert decoded.rows.tolist() == [2900]
    assert decoded.bad[3] == f"schema id {ids[3]} is not registered under the topic's subject"


def test_nulls_are_null_and_values_beside_them_are_not(schemas: Schemas):
    known = Schemas(Reader(CUSTOMERS))
    known.add(OLD, CUSTOMERS)
    base = {f["name"]: "text" if f["type"] == "string" else 1 for f in CUSTOMERS["fields"]}
    emails = [None, "", "someone@example.com", None]
    values = [frame(OLD, encode(plain_schema(CUSTOMERS), {**base, "email": e})) for e in emails]
    decoded = decode(values, known)
    assert decoded.table["email"].to_list() == emails
    assert decoded.table["email"].null_count() == 2
    assert decode(values, known, reference.decode).table.equals(decoded.table)


def test_records_of_golden_size_read_as_fastavro_reads_them(schemas: Schemas):
    parsed = fastavro.parse_schema(dict(PLAIN))
    values = [old(i, quantity=-i, payment_method="x" * (i % 20)) for i in range(200)]
    alone = [fastavro.schemaless_reader(io.BytesIO(v[5:]), parsed, None) for v in values]
    assert rows(decode(values, schemas)) == alone
