"""What `verify` takes for a record: what Avro's specification says, where fastavro takes more."""

import io
import random

import fastavro
import pytest

from commands.audit.avro import Decoder
from retail_stream.avro import decoder, reader

_READER = {"type": "record", "name": "r", "fields": [{"name": "i", "type": "int"}, {"name": "n", "type": "long"}]}
_TREE = {
    "type": "record",
    "name": "tree",
    "fields": [
        {"name": "left", "type": ["null", "tree"]},
        {"name": "sizes", "type": {"type": "array", "items": "int"}},
    ],
}
_EVERYTHING = {
    "type": "record",
    "name": "r",
    "namespace": "a.b",
    "fields": [
        *_READER["fields"],
        {"name": "text", "type": ["null", "string", "int"]},
        {"name": "yes", "type": "boolean"},
        {"name": "tree", "type": _TREE},
        {"name": "again", "type": ["a.b.tree", "null"]},
        {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["A", "B"]}},
        {"name": "four", "type": {"type": "fixed", "name": "four", "size": 4}},
        {"name": "map", "type": {"type": "map", "values": ["null", "double", "bytes"]}},
        {"name": "nulls", "type": {"type": "array", "items": "null"}},
        {"name": "float", "type": {"type": "float"}},
    ],
}
_GOOD = {
    "i": -5,
    "n": 2**62,
    "text": "naïve",
    "yes": True,
    "tree": {"left": {"left": None, "sizes": [1, -(2**31)]}, "sizes": []},
    "again": {"left": None, "sizes": [7]},
    "kind": "B",
    "four": b"abcd",
    "map": {"x": None, "y": 1.5, "z": b"\xff"},
    "nulls": [None, None],
    "float": 0.5,
}


def written(schema: dict, record: dict) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(dict(schema)), record)
    return out.getvalue()


def with_field(avro_type: object) -> Decoder:
    """Of records of the two numbers and one more field."""
    return Decoder(_READER, {1: {**_READER, "fields": [*_READER["fields"], {"name": "x", "type": avro_type}]}})


@pytest.mark.parametrize(
    ("body", "good"),
    [
        (b"\x02\x04", True),
        # Padded, and as long as can be.
        (b"\x82\x00\x84\x80\x00", True),
        (b"\x82" + b"\x80" * 8 + b"\x00\x04", True),
        (b"\x82" + b"\x80" * 9 + b"\x00\x04", False),
        (b"\xff\xff\xff\xff\x0f" + b"\xff" * 9 + b"\x01", True),
        # One more than the type holds: fastavro makes it a small number, or leaves the int as it is.
        (b"\x80\x80\x80\x80\x10\x04", False),
        (b"\x02" + b"\x80" * 9 + b"\x02", False),
        (b"\x80" * 9 + b"\x02\x04", False),
        (b"\x02" + b"\x80" * 10 + b"\x01", False),
        (b"\x02" + b"\xff" * 9, False),
        (b"\x02\x04\x00", False),
    ],
)
def test_a_number_fits_its_type_and_has_at_most_ten_bytes(body: bytes, good: bool) -> None:
    assert (Decoder(_READER, {1: _READER}).record(1, body) is not None) == good


@pytest.mark.parametrize(
    ("avro_type", "value", "good"),
    [
        ("boolean", b"\x01", True),
        ("boolean", b"\x02", False),
        ("int", b"\x80\x80\x80\x80\x10", False),
        (["null", "string"], b"\x82\x00\x02x", True),
        # fastavro counts branches and symbols from behind.
        (["null", "string"], b"\x01\x02x", False),
        (["null", "string"], b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", False),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, b"\x01", False),
        ("string", b"\x82" + b"\x80" * 8 + b"\x02x", False),
        ("string", b"\x04\xed\xa0", False),
        ({"type": "array", "items": "int"}, b"\x02\x06\x00", True),
        ({"type": "array", "items": "int"}, b"\x01\x02\x06\x00", True),
        # The block's size is not that of its items.
        ({"type": "array", "items": "int"}, b"\x01\x04\x06\x00", False),
        ({"type": "array", "items": "int"}, b"\x02\x80\x80\x80\x80\x10\x00", False),
        ({"type": "array", "items": "null"}, b"\x80\x80\x08\x00", True),
        ({"type": "array", "items": "null"}, b"\x82\x80\x08\x00", False),
    ],
)
def test_what_fastavro_takes_and_avro_forbids_is_no_record(avro_type: object, value: bytes, good: bool) -> None:
    assert (with_field(avro_type).record(1, b"\x02\x04" + value) is not None) == good


@pytest.mark.parametrize("seed", range(4))
def test_the_cleaner_and_verify_take_the_same_bytes_for_records(seed: int) -> None:
    rng = random.Random(seed)
    bodies = [bytearray(written(_EVERYTHING, _GOOD)) for _ in range(2_000)]
    for body in bodies[1:]:
        for _ in range(rng.choice((1, 1, 2))):
            at, high = rng.randrange(len(body)), rng.randbytes(rng.choice((1, 1, 8, 9, 10)))
            new = rng.choice(([b ^ 1 << rng.randrange(8) for b in body[at : at + 1]], [b | 0x80 for b in high], [2]))
            body[at : at + rng.randrange(2)] = bytes(new)
    schemas = decoder.Schemas(reader.Reader(_READER))
    schemas.add(1, _EVERYTHING)
    bad = decoder.decode([b"\0\0\0\0\1" + body for body in bodies], schemas).bad
    ours = Decoder(_READER, {1: _EVERYTHING})
    refused = {i for i, body in enumerate(bodies) if ours.record(1, bytes(body)) is None}
    assert {i: bodies[i].hex() for i in refused ^ set(bad)} == {}
    assert 0 < len(refused) < len(bodies)
