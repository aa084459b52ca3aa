"""Dead letters as rows: what Postgres cannot hold is written otherwise, and nothing stops the load."""

import json

from commands.dlq.letters import Letter
from commands.dlq.load import _rows
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.entities import Entity

SCHEMA = topics.topic(topics.raw(Entity.SALES)).schema()
READER = RecordSchema(SCHEMA)
SALE = {
    "transaction_id": 1, "store_id": 2, "event_time": 1_772_352_000_000_001, "customer_id": 3, "product_id": 4,
    "quantity": 1, "unit_price": 5.0, "total_amount": 5.0, "payment_method": "card", "discount_applied": -1.5,
    "tax_amount": 0.4,
}  # fmt: skip


def letter(value: bytes | None, key: bytes | None = b"2", timestamp: int = 0, **headers: str) -> Letter:
    named = [(name.replace("__", "."), text.encode()) for name, text in headers.items()]
    return Letter(Entity.SALES, 0, 5, timestamp, key, value, named)


def row(given: Letter) -> dict:
    (made,) = _rows([given], READER, {1: READER})
    return dict(json.loads(json.dumps(made, allow_nan=False)))


def sale(**changed: object) -> bytes:
    return frame(1, encode(READER.plain, {**SALE, **changed}))


def test_a_record_is_its_fields_by_the_raw_schema_with_times_as_iso_8601() -> None:
    made = row(letter(sale(), rules="discount_not_negative,other"))
    assert made["value"] == {**SALE, "event_time": "2026-03-01T08:00:00.000001+00:00"}
    assert made["rules"] == ["discount_not_negative", "other"]


def test_what_postgres_cannot_hold_is_written_otherwise() -> None:
    made = row(letter(sale(payment_method="a\0b", total_amount=float("nan"), event_time=2**62), b"\xff\0", 2**60))
    assert (made["value"]["payment_method"], made["value"]["total_amount"]) == ("a\ufffdb", "nan")
    assert (made["value"]["event_time"], made["key"], made["published_at"]) == (2**62, "\\xff00", None)


def test_bytes_that_are_no_record_have_no_value() -> None:
    for value in (None, b"", b"torn", sale()[:-1], frame(9, b"")):
        made = row(letter(value, None))
        assert (made["value"], made["key"], made["rules"], made["source_offset"]) == (None, None, ["unknown"], None)
