"""`verify` and the services spell fields without a column in the same way, each by code of its own."""

import json
import struct
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.audit.jsonb import Values, with_meanings
from retail_stream.avro import extra
from tests.harness.avro_evolutions import evolution
from tests.harness.avro_reading import read, record, text
from tests.harness.avro_values import inlined, varint

READER = record(("id", "int"))


def as_jsonb(written: str | None) -> str | None:
    """JSON as Postgres shows it after the type jsonb."""

    def shown(value: Any) -> str:
        if isinstance(value, dict):
            ordered = sorted(value, key=lambda k: (len(k.encode()), k.encode()))
            return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {shown(value[k])}" for k in ordered) + "}"
        if isinstance(value, list):
            return f"[{', '.join(map(shown, value))}]"
        return format(value, "f") if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)

    return None if written is None else shown(json.loads(written, parse_float=Decimal))


def by_verify(schema: Any, body: bytes, known: set[str]) -> str | None:
    values = Values(with_meanings(schema))
    return values.beyond(values.read(body), known)


def both(avro_type: Any, value: bytes) -> str | None:
    """The field ``x`` as the services write it, which `verify` expects too."""
    writer = record(("id", "int"), ("x", avro_type))
    (written,) = extra.texts(read(READER, writer, b"\x02" + value)).to_list()
    assert as_jsonb(written) == by_verify(writer, b"\x02" + value, {"id"})
    return written


def decimal(scale: int, **more: Any) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": scale, **more}


def millis(local: str = "") -> dict[str, str]:
    return {"type": "long", "logicalType": f"{local}timestamp-millis"}


HOME, WORK = (record(("street", "string"), name=f"a.{n}") for n in ("Home", "Work"))
OTHER_HOME = record(("street", "string"), name="b.Home")


@pytest.mark.parametrize(
    ("avro_type", "value", "spelled"),
    [
        ("boolean", b"\1", "true"),
        ("int", varint(-7), "-7"),
        ("long", varint(2**53 - 1), "9007199254740991"),
        ("long", varint(2**53), '"~long:9007199254740992"'),
        ("long", varint(-(2**63)), '"~long:-9223372036854775808"'),
        ("double", struct.pack("<d", 1.764504e9), "1764504000.0"),
        ("double", struct.pack("<d", 1e300), "1e+300"),
        ("double", struct.pack("<d", 5e-324), "5e-324"),
        ("double", struct.pack("<d", -0.0), '"~double:-0.0"'),
        ("double", struct.pack("<d", float("nan")), '"~double:NaN"'),
        ("float", struct.pack("<f", float("-inf")), '"~double:-Infinity"'),
        ("float", struct.pack("<f", 0.1), "0.10000000149011612"),
        ("string", text('a"\\b\n\x01\x7fé😀'), '"a\\"\\\\b\\n\\u0001\x7fé😀"'),
        ("string", text("~long:1"), '"~~long:1"'),
        ("string", text("a\\\0b"), '"~text:a\\\\\\\\\\\\000b"'),
        ("bytes", text(b"\0\x80"), '"~bytes:0080"'),
        ({"type": "fixed", "name": "F", "size": 2}, b"\xff\0", '"~bytes:ff00"'),
        (decimal(2), text(b"\0\x80"), '"~decimal:1.28"'),
        (decimal(2), text(b"\xff"), '"~decimal:-0.01"'),
        (decimal(0), text(b"\0"), '"~decimal:0"'),
        (decimal(0), text(b""), '"~bytes:"'),
        (decimal(11), text(b"\1"), '"~bytes:01"'),
        (millis(), varint(1_764_504_000_000), '"~timestamp-millis:1764504000000"'),
        (["null", millis("local-")], b"\2" + varint(-1), '"~local-timestamp-millis:-1"'),
        ({"type": "int", "logicalType": "date"}, varint(20_000), "20000"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\2", '"B"'),
        (["string"], b"\0" + text("x"), '"x"'),
        (["string", "null"], b"\0" + text("x"), '"x"'),
        (["null", HOME, WORK], b"\4" + text("x"), '{"Work":{"street":"x"}}'),
        ([HOME, OTHER_HOME], b"\2" + text("x"), '{"Home~1":{"street":"x"}}'),
        (["null", "double", "long"], b"\4" + varint(2**60 + 1), '{"long":"~long:1152921504606846977"}'),
        ({"type": "map", "values": "int"}, b"\4" + text("~a\0") + b"\2" + text("~") + b"\4\0", None),
    ],
)
def test_every_value_has_one_spelling(avro_type: Any, value: bytes, spelled: str | None):
    spelled = spelled or '{"~text:~a\\\\000":1,"~~":2}'
    assert both(avro_type, value) == f'{{"x":{spelled}}}'


def test_null_is_left_out_and_a_field_that_is_too_large_is_omitted():
    assert both(["null", "string"], b"\0") is None
    large = text(b"x" * extra.MOST_BYTES)
    assert both("string", large) == f'{{"x":"~omitted:{len(large)}"}}'
    nulls = {"type": "array", "items": record(("a" * 3000, "null"), name="N")}
    assert both(nulls, varint(6000) + b"\0") == '{"x":"~omitted:3"}'


@pytest.mark.parametrize("name", ["row", "key", "user", "__header", "offset", "timestamp", "extra", "value", "~x"])
def test_a_field_may_have_any_name(name: str):
    writer = record((name, "int"), ("id", "int"))
    (written,) = extra.texts(read(READER, writer, b"\4\2")).to_list()
    assert json.loads(written) == {("~" if name.startswith("~") else "") + name: 2}


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_fields_of_a_random_writer_are_spelled_alike(rng: Random):
    e = evolution(rng)
    decoded = read(e.reader, e.writer, *(r.body for r in e.records), references=e.references)
    written = dict(zip(decoded.rows.tolist(), extra.texts(decoded).to_list(), strict=True))
    for part in decoded.parts:
        beyond = {f.name for f in part.extra}
        for row in part.rows.tolist():
            known = set(e.records[row].parts) - beyond
            expected = by_verify(inlined(e.writer, e.references, set()), e.records[row].body, known)
            assert as_jsonb(written[row]) == expected
