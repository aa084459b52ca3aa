"""Decoding a batch gives each record the verdict, and the values, that it would get alone."""

import random
from typing import Any

import polars as pl
import pytest

from retail_stream.avro import extra
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.entities import Entity
from tests.harness.examples import RAW_ID, examples, schema

SALES = RecordSchema(schema(Entity.SALES, "raw"))
CUSTOMERS = RecordSchema(schema(Entity.CUSTOMERS, "raw"))
SALE: dict[str, Any] = next(e.value or {} for e in examples("valid") if str(e) == "sales-sale")
CUSTOMER: dict[str, Any] = next(e.value or {} for e in examples("valid") if str(e) == "customers-customer")


def sale(**changes) -> bytes:
    return encode(SALES.plain, {**SALE, **changes})


def long(n: int) -> bytes:
    """Avro's zigzag varint, of any width."""
    n = n << 1 if n >= 0 else (-n << 1) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def mutated(rng: random.Random, body: bytes) -> bytes:
    out = bytearray(body)
    match rng.randrange(5):
        case 0:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        case 1:
            del out[rng.randrange(len(out)) :]
        case 2:
            out.insert(rng.randrange(len(out)), rng.randrange(256))
        case 3:
            out[rng.randrange(len(out))] = 255
        case 4:
            out[:0] = long(rng.randrange(-(2**70), 2**70))
    return bytes(out)


def decoded(writer: RecordSchema, *bodies: bytes) -> tuple[pl.DataFrame, list[int]]:
    """The good records, and the indexes of the bad ones."""
    found = writer.read([frame(RAW_ID, b) for b in bodies], {RAW_ID: writer})
    return found.table, sorted(found.bad)


@pytest.mark.parametrize(("writer", "record"), [(SALES, SALE), (CUSTOMERS, CUSTOMER)], ids=["sales", "customers"])
def test_a_damaged_record_gets_the_verdict_and_values_of_a_reader_that_sees_it_alone(writer, record):
    rng = random.Random(7)
    good = encode(writer.plain, record)
    for _ in range(300):
        bodies = [mutated(rng, good) if rng.random() < 0.3 else good for _ in range(20)]
        table, bad = decoded(writer, *bodies)
        alone = [writer.record(b) for b in bodies]
        assert bad == [i for i, r in enumerate(alone) if r is None]
        # As text: NaN differs from itself.
        assert str(table.rows(named=True)) == str([r for r in alone if r is not None])


def test_two_records_whose_damages_cancel_out_are_both_bad():
    # The first gives its last byte to the second: joined, the bytes are those of two good records.
    first, second = sale(transaction_id=1), sale(transaction_id=2)
    table, bad = decoded(SALES, first[:-1], first[-1:] + second)
    assert (table.height, bad) == (0, [0, 1])


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**40])
def test_an_int_that_does_not_fit_32_bits_is_no_avro_int(number: int):
    body = sale()
    head = long(SALE["transaction_id"])
    wide = head + long(number) + body[len(head) + len(long(SALE["store_id"])) :]
    _, bad = decoded(SALES, body, wide, body)
    assert bad == [1]


@pytest.mark.parametrize("number", [2**31 - 1, -(2**31), 0, -1])
def test_the_ends_of_32_bits_are_avro_ints(number: int):
    table, bad = decoded(SALES, sale(store_id=number))
    assert (table["store_id"].to_list(), bad) == ([number], [])


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**55, 2**62, 1])
def test_longs_of_every_width_are_read(number: int):
    table, bad = decoded(SALES, sale(), sale(transaction_id=number), sale())
    assert (table["transaction_id"].to_list()[1], bad) == (number, [])


def test_a_varint_longer_than_it_needs_to_be_is_still_avro():
    body = sale(transaction_id=1)
    padded = b"\x82\x80\x00" + body[1:]
    table, bad = decoded(SALES, body, padded)
    assert (table["transaction_id"].to_list(), bad) == ([1, 1], [])


@pytest.mark.parametrize("text", ["", "x" * 63, "x" * 64, "é" * 10_000, "x" * 3_000_000])
def test_texts_of_every_length_are_read(text: str):
    table, bad = decoded(SALES, sale(), sale(payment_method=text), sale())
    assert (table["payment_method"].to_list()[1], bad) == (text, [])


def test_text_that_is_no_utf8_is_bad_and_found_among_many():
    good = sale(payment_method="cash")
    bodies = [good] * 1000
    bodies[3] = bodies[700] = good.replace(b"cash", b"c\xffsh")
    table, bad = decoded(SALES, *bodies)
    assert (table.height, bad) == (998, [3, 700])


def test_a_union_branch_that_does_not_exist_is_no_avro():
    body = encode(CUSTOMERS.plain, CUSTOMER)
    head = long(CUSTOMER["customer_id"]) + long(len(CUSTOMER["name"])) + CUSTOMER["name"].encode()
    assert body[len(head)] == 2  # branch 1 of null | string
    _, bad = decoded(CUSTOMERS, body, head + long(19) + body[len(head) + 1 :])
    assert bad == [1]


def test_values_of_several_writer_schemas_keep_their_order_and_their_new_fields():
    newer = {**SALES.schema, "fields": [*SALES.schema["fields"], {"name": "channel", "type": ["null", "string"]}]}
    writers = {RAW_ID: SALES, 9: RecordSchema(newer)}
    values = [
        frame(9, encode(writers[9].plain, {**SALE, "transaction_id": i, "channel": "app"}))
        if i % 3 == 0
        else frame(RAW_ID, sale(transaction_id=i))
        for i in range(10)
    ]
    found = SALES.read(values, writers)
    assert found.bad == {}
    assert found.table["transaction_id"].to_list() == list(range(10))
    assert extra.texts(found).to_list() == ['{"channel":"app"}' if i % 3 == 0 else None for i in range(10)]


def test_a_record_of_any_schema_is_a_dict_of_plain_values():
    moment = {"type": "long", "logicalType": "timestamp-micros"}
    one, other = (
        {"type": "record", "name": name, "fields": [{"name": "user", "type": ["null", t]}]}
        for name, t in (("a.One", moment), ("b.Other", {"type": "map", "values": "bytes"}))
    )
    both = RecordSchema([one, other])  # type: ignore[arg-type]
    assert both.record(b"\0\x02\x04") == {"user": 2}
    assert both.record(b"\x02\x02\x02\x02k\x02\xff\0") == {"user": {"k": b"\xff"}}
    assert both.record(b"\x04\0") is None
    assert RecordSchema({"type": "record", "name": "r", "fields": [{"name": "f", "type": "gone"}]}).record(b"") is None


def test_a_schema_without_a_field_that_readers_need_is_refused_by_name():
    fields = [f for f in SALES.schema["fields"] if f["name"] != "tax_amount"]
    older = RecordSchema({**SALES.schema, "fields": fields})
    body = encode(older.plain, {n: v for n, v in SALE.items() if n != "tax_amount"})
    (why,) = SALES.read([frame(9, body)], {9: older}).bad.values()
    assert "Field tax_amount is missing" in why


@pytest.mark.parametrize("value", [None, b"", b"\x00\x00\x00", b"\x01\x00\x00\x00\x07abc", b"junk junk"])
def test_a_value_without_a_confluent_header_is_bad(value):
    assert list(SALES.read([value, frame(RAW_ID, sale())], {RAW_ID: SALES}).bad) == [0]


def test_an_empty_batch_has_the_readers_columns():
    assert SALES.read([], {}).table.schema == SALES.columns
