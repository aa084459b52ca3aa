"""Fields that only the writer has, as JSON. How values are spelled: `unit/commands/audit/test_jsonb.py`."""

from retail_stream.avro import extra
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
        '{"__photo":"~bytes:80","cost":{"amount":"~decimal:128"},"tags":["a"],"user":"é"}',
        '{"__photo":"~bytes:","tags":[]}',
    ]


def test_a_writer_without_extra_fields_has_no_json() -> None:
    assert extra.texts(read(READER, READER, b"\x02", b"\x04")).to_list() == [None, None]


def test_keys_are_sorted_whatever_the_order_of_the_writer() -> None:
    one = record(("b", "string"), ("id", "int"), ("a", "long"))
    other = record(("a", "long"), ("id", "int"), ("b", "string"))
    texts = [extra.texts(read(READER, w, body)).item() for w, body in ((one, b"\2x\2\4"), (other, b"\4\2\2x"))]
    assert texts == ['{"a":2,"b":"x"}'] * 2
