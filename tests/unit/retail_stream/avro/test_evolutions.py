"""Random evolutions of schemas: the verdicts and values are those of fastavro's schema resolution.

fastavro is more lenient than the specification, or than our reading of it, in these points; the test decides them
itself (`_expected`):

- It reads any long as a time, and a decimal's bytes as text or bytes: logical types are not compared.
- It fills a missing field with its default as the JSON stands there, valid or not.
- It keeps the precision of a number that is read as a float; the specification's float has 32 bits.
"""

import io
import math
from random import Random
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_stream.avro import reference, reference_encoder
from retail_stream.avro.decoder import Decoded, Schemas, Values, decode
from retail_stream.avro.derived import derived_schema
from retail_stream.avro.encoder import Target
from retail_stream.avro.reader import Reader
from retail_stream.avro.values import read_value
from tests.harness.avro_evolutions import TIMES, Evolution, Written, evolution, text
from tests.harness.avro_values import Json, inlined, plain

ID, CLEAN_ID = 7, 8
_UNREADABLE = (fastavro.schema.SchemaParseException, fastavro.read.SchemaResolutionError, UnicodeDecodeError)


def _framed(records: list[Written]) -> Values:
    return Values.of([b"\0" + ID.to_bytes(4, "big") + r.body for r in records])


def _oracle(e: Evolution) -> tuple[Json, Json]:
    """Writer and reader for fastavro: without what it reads by other rules."""
    reader = plain(e.reader)
    for made, original in zip(reader["fields"], e.reader["fields"], strict=True):
        made["aliases"] = original.get("aliases", [])
        for scalar in _branches(made["type"]):
            for given_scalar in _branches(original["type"]):
                if isinstance(scalar, dict) and scalar["type"] == "enum" and "default" in given_scalar:
                    scalar["default"] = given_scalar["default"]
        if original["name"] in e.defaults:
            made["default"] = original["default"]
    reader["aliases"] = [f"retail_stream.{a}" for a in e.reader.get("aliases", [])]
    writer = plain(inlined(e.writer, e.references, set()))
    return fastavro.parse_schema(writer), fastavro.parse_schema(reader)


def _branches(node: Json) -> list[Json]:
    return [n for n in (node if isinstance(node, list) else [node]) if n != "null"]


def _expected(e: Evolution, record: Written, writer: Json, reader: Json) -> dict[str, Any] | None:
    """The reader's values of one record, or None where it cannot be read."""
    read: Any
    try:
        read = fastavro.schemaless_reader(io.BytesIO(record.body), writer, reader)
    except _UNREADABLE:
        return None
    out: dict[str, Any] = {}
    for f in e.reader["fields"]:
        names = [n for n in (f["name"], *f.get("aliases", [])) if n in record.types]
        if not names:
            out[f["name"]] = e.defaults[f["name"]]
            continue
        scalar = _branches(f["type"])[0]
        written = record.types[names[0]]
        logical = written.get("logicalType", "") if isinstance(written, dict) else ""
        value = read[f["name"]]
        if value is not None and logical == "decimal":
            return None
        if value is not None and isinstance(scalar, dict) and scalar.get("logicalType") == "timestamp-micros":
            if logical not in TIMES:
                return None
            value = value * 1000 if logical.endswith("millis") else value
            value = value // 1000 if logical.endswith("nanos") else value
            if not -(2**63) <= value < 2**63:
                return None
        if value is not None and scalar == "float":
            value = float(np.int64(value).astype(np.float32)) if isinstance(value, int) else float(np.float32(value))
        out[f["name"]] = value
    return out


def _same(one: Any, other: Any) -> bool:
    return one == other or (
        isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    )


def _check(rng: Random) -> None:
    e = evolution(rng)
    reader = Reader(e.reader)
    schemas = Schemas(reader)
    plan = schemas.add(ID, e.writer, e.references)
    values = _framed(e.records)
    decoded = decode(values, schemas)
    writer, oracle_reader = _oracle(e)
    expected = [_expected(e, r, writer, oracle_reader) for r in e.records]
    assert sorted(decoded.bad) == [i for i, x in enumerate(expected) if x is None], (decoded.bad, text(e))
    rows = dict(zip(decoded.rows.tolist(), decoded.table.to_dicts(), strict=True))
    for i, x in enumerate(expected):
        if x is not None:
            assert all(_same(rows[i][n], x[n]) for n in x), (i, rows[i], x, text(e))
    _check_reference(decoded, schemas, values)
    _check_extra(e, decoded, writer)
    _check_encoded(e, decoded, expected)
    if plan.refusal:
        assert not decoded.parts


def _check_reference(decoded: Decoded, schemas: Schemas, values: Values) -> None:
    alike = decode(values, schemas, reference.decode)
    assert alike.bad == decoded.bad
    assert str(alike.table.to_dicts()) == str(decoded.table.to_dicts())
    assert [(p.rows.tolist(), p.places.tolist()) for p in alike.parts] == [
        (p.rows.tolist(), p.places.tolist()) for p in decoded.parts
    ]


def _check_extra(e: Evolution, decoded: Decoded, writer: Json) -> None:
    """The fields beyond the reader's are there as the bytes they were."""
    for part in decoded.parts:
        for item, row in enumerate(part.rows.tolist()):
            extra = decoded.extra_fields(part, item)
            assert extra == {n: e.records[row].parts[n] for n in extra}
            known = {n for f in e.reader["fields"] for n in (f["name"], *f.get("aliases", []))}
            assert set(e.records[row].parts) - known <= set(extra)
            whole: Any = fastavro.schemaless_reader(io.BytesIO(e.records[row].body), writer, None)
            for f in part.extra:
                assert str(read_value(f.type, extra[f.name])) == str(whole[f.name])


def _check_encoded(e: Evolution, decoded: Decoded, expected: list[dict[str, Any] | None]) -> None:
    """Written anew by the reader's schema and their own extra fields, records read as the same values."""
    target = Target(e.reader, Reader(e.reader))
    for part in decoded.parts:
        buffer, offsets = target.encode(decoded, part, CLEAN_ID)
        again, places = target.encode(decoded, part, CLEAN_ID, run=reference_encoder.encode)
        assert (buffer.tobytes(), offsets.tolist()) == (again.tobytes(), places.tolist())
        clean = derived_schema(e.reader, part.branch)
        parsed = fastavro.parse_schema(plain(clean))
        for item, row in enumerate(part.rows.tolist()):
            value = buffer[offsets[item] : offsets[item + 1]].tobytes()
            assert value[:5] == b"\0\0\0\0\x08"
            source = io.BytesIO(value[5:])
            read: Any = fastavro.schemaless_reader(source, parsed, None)
            assert source.tell() == len(value) - 5
            x = expected[row] or {}
            assert all(_same(read[n], x[n]) for n in x), (read, x, text(e))


@given(st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_a_random_evolution_reads_as_the_specification_says(rng: Random):
    _check(rng)


@pytest.mark.long
@given(st.integers(0, 2**64))
@settings(max_examples=2_000, deadline=None)
def test_two_thousand_random_evolutions_read_as_the_specification_says(seed: int):
    _check(Random(seed))
