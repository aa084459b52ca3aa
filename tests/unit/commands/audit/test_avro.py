"""Records of other people's schemas, as `verify` reads them by its own engine."""

import io
import json
import random

import fastavro
import pytest

from commands.audit.avro import Decoder, layout
from commands.audit.records import field_columns
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


def _bodies(rng: random.Random, entity: str) -> list[bytes | None]:
    """Records of an entity as they should be, and damaged ones."""
    fields = topics.topic(f"{entity}.raw").schema()["fields"]
    # An int that is too large has the bytes of a long.
    as_longs = json.loads(json.dumps(layout(f"{entity}.raw")).replace('"int"', '"long"'))
    parsed = fastavro.parse_schema(as_longs)

    def value(kind: object) -> object:
        kind = rng.choice(kind) if isinstance(kind, list) else kind
        match kind if isinstance(kind, str) else kind["type"]:  # type: ignore[index]
            case "null":
                return None
            case "string":
                return rng.choice(["", "a", "\0", "é𝄞", "x" * 200])
            case "double":
                return rng.choice([0.0, -0.0, 12.5, float("nan"), float("inf")])
            case "int":
                edges = [2**31, -(2**31) - 1] if rng.random() < 0.05 else [2**31 - 1, -(2**31)]
                return rng.choice([0, -1, 1, 63, 64, *edges])
            case _:
                return rng.choice([0, -1, 2**62 - 1, -(2**62), 2**62, 2**63 - 1, -(2**63)])

    found: list[bytes | None] = [None, b"", b"\0"]
    for _ in range(400):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, {f["name"]: value(f["type"]) for f in fields})
        body = bytearray(out.getvalue())
        match rng.randrange(9):
            case 0:
                body[rng.randrange(len(body))] = rng.choice([0, 2, 4, 0x7F, 0x80, 0xFF])
            case 1:
                del body[rng.randrange(len(body)) :]
            case 2:
                body += rng.randbytes(1)
            case 3:
                body[rng.randrange(len(body)) : 0] = rng.choice([b"\x80\x00", b"\x80" * 9, b"\xff" * 10 + b"\x01"])
            case 4:
                body = bytearray(rng.randbytes(rng.randrange(40)))
            case 5:
                # Where a text is empty, its length is -1 then.
                zeros = [i for i, byte in enumerate(body) if byte == 0]
                body[rng.choice(zeros or [0])] = 1
        found.append(bytes(body))
    return found


@pytest.mark.parametrize("entity", ["sales", "customers", "stores"])
@pytest.mark.parametrize("seed", range(5))
def test_many_records_at_once_are_read_as_each_alone(entity: str, seed: int):
    schema = topics.topic(f"{entity}.raw").schema()
    newer = {**schema, "fields": [*schema["fields"], {"name": "more", "type": "int"}]}
    decoder = Decoder(schema, {1: schema, 2: newer})
    rng = random.Random(seed)
    bodies = _bodies(rng, entity)
    numbers = [rng.choice([1, 1, 1, 1, 2, 3, None]) for _ in bodies]
    columns = field_columns(layout(f"{entity}.raw"))
    rows = decoder.table(numbers, bodies, columns).rows(named=True)
    alone = [decoder.whole(n, b) for n, b in zip(numbers, bodies, strict=True)]
    wanted = [
        {"decoded": w is not None, "extra": w[1] if w else None, **{c: w[0][c] if w else None for c in columns}}
        for w in alone
    ]
    # As text, so that NaN is equal to itself and -0.0 is not 0.0.
    assert list(map(repr, rows)) == list(map(repr, wanted))
    assert 50 < sum(w is not None for w in alone) < len(alone) - 20
