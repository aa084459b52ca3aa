"""Records of other people's schemas, as `verify` reads them by its own engine."""

import pytest

from commands.audit.avro import Decoder, layout
from retail_stream import topics

SALE_FIELDS = layout("sales.raw")["fields"]
REFUND = {"type": "record", "name": "Refund", "fields": [{"name": "id", "type": "long"}]}


def sale_with(*fields: dict) -> dict:
    return {"type": "record", "name": layout("sales.raw")["name"], "fields": [*SALE_FIELDS, *fields]}


def test_a_union_at_top_level_is_read_by_the_branch_of_each_record():
    decoder = Decoder(layout("sales.raw"), {1: [REFUND, sale_with()]})  # type: ignore[dict-item]
    body = b"\0" * 8 + b"\0" * 8
    sale = b"\2" + b"\0" * 6 + bytes(16) + b"\0" + bytes(16)
    assert (decoder.record(1, sale) or {})["quantity"] == 0
    assert decoder.record(1, b"\0\2") is None
    assert decoder.record(1, body) is None


def test_schemas_that_are_no_record_or_no_avro_read_nothing_and_a_wrong_default_is_no_harm():
    wrong = {"name": "channel", "type": "string", "default": 5}
    schemas = {
        1: "string",
        2: {"type": "enum", "name": "E"},
        3: sale_with({"name": "f", "type": "gone"}),
        4: sale_with(wrong),
    }
    decoder = Decoder(layout("sales.raw"), schemas)  # type: ignore[arg-type]
    sale = b"\0" * 6 + bytes(16) + b"\0" + bytes(16)
    assert [decoder.record(n, sale + b"\0") is None for n in schemas] == [True, True, True, False]


def _time(logical: str, *, nullable: bool = False) -> dict:
    moment = {"type": "long", "logicalType": logical} if logical else "long"
    fields = [
        {**f, "type": ["null", moment] if nullable else moment} if f["name"] == "event_time" else f for f in SALE_FIELDS
    ]
    return {"type": "record", "name": "Sale", "fields": fields}


@pytest.mark.parametrize(
    ("logical", "micros"),
    [
        ("timestamp-millis", 3000),
        ("timestamp-micros", 3),
        ("timestamp-nanos", 0),
        ("local-timestamp-millis", 3000),
        ("local-timestamp-nanos", 0),
        ("time-micros", None),
        ("", None),
    ],
)
def test_a_time_is_read_by_the_unit_of_its_writer_and_a_plain_number_is_no_time(logical: str, micros: int | None):
    decoder = Decoder(topics.topic("sales.raw").schema(), {1: _time(logical), 2: _time(logical, nullable=True)})
    for number, before in ((1, b""), (2, b"\x02")):
        body = b"\0\0" + before + b"\x06" + b"\0" * 3 + bytes(16) + b"\0" + bytes(16)
        record = decoder.record(number, body)
        assert (record and record["event_time"]) == micros


@pytest.mark.parametrize(("logical", "good"), [("", True), ("decimal", False)])
def test_bytes_are_text_unless_they_are_a_decimal(logical: str, good: bool):
    paid = {"type": "bytes", "logicalType": logical, "precision": 4} if logical else "bytes"
    ours = topics.topic("sales.raw").schema()
    fields = [{**f, "type": paid} if f["name"] == "payment_method" else f for f in ours["fields"]]
    body = b"\0" * 6 + bytes(16) + b"\2a" + bytes(16)
    record = Decoder(ours, {1: {**ours, "fields": fields}}).record(1, body)
    assert (record and record["payment_method"]) == ("a" if good else None)


def test_a_record_of_another_name_is_no_record_of_ours_though_it_has_the_same_fields():
    body = b"\0" * 6 + bytes(16) + b"\0" + bytes(16)
    decoder = Decoder(topics.topic("sales.raw").schema(), {1: topics.topic("sales.raw").schema()})
    assert decoder.record(1, body) is not None
    refund = {**topics.topic("sales.raw").schema(), "name": "Refund"}
    assert Decoder(topics.topic("sales.raw").schema(), {1: refund}).record(1, body) is None


def test_milliseconds_beyond_64_bits_are_no_record():
    decoder = Decoder(topics.topic("sales.raw").schema(), {1: _time("timestamp-millis")})
    endless = b"\xfe" + b"\xff" * 8 + b"\x01"
    assert decoder.record(1, b"\0\0" + endless + b"\0" * 3 + bytes(16) + b"\0" + bytes(16)) is None
