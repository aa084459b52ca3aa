"""Decoded records are written anew by a clean schema; their extra fields go on as the bytes they were."""

import io
import json
from itertools import pairwise
from typing import Any

import fastavro
import numpy as np
import pytest

from retail_stream.avro import passes, reference_encoder
from retail_stream.avro.decode import encode, frame
from retail_stream.avro.decoder import Decoded, Schemas, decode
from retail_stream.avro.derived import derived_schema
from retail_stream.avro.encoder import Pass, Target
from retail_stream.avro.plan import NullValue
from retail_stream.avro.reader import Reader
from retail_stream.avro.schema import plain_schema
from retail_stream.avro.types import SchemaError, parse
from retail_stream.entities import Entity
from retail_stream.topics import SCHEMAS

RAW, CLEAN = (
    json.loads((SCHEMAS / "raw/stores.avsc").read_text()),
    json.loads((SCHEMAS / "clean/stores.avsc").read_text()),
)
SALES = json.loads((SCHEMAS / "raw/sales.avsc").read_text())
STORE = {"store_id": 3, "name": "A store with a long name", "address": "", "open_date": -1, "status": "open"}
STORE |= {"phone_number": "x" * 13, "last_update_time": 2**50}
TREE = {"type": "record", "name": "Store", "fields": [{"name": "part_of", "type": ["null", "Store"]}]}
NEWER = {
    **RAW,
    "fields": [
        {"name": "tree", "type": ["null", {**TREE, "namespace": "com.acme"}], "default": None},
        *({**f, "type": "int"} if f["name"] == "store_id" else f for f in reversed(RAW["fields"])),
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4}},
    ],
}
BOTH: Any = pytest.mark.parametrize("run", [passes.encode, reference_encoder.encode], ids=["compiled", "Python"])


def decoded(schema: dict[str, Any], *records: dict[str, Any]) -> tuple[Decoded, Reader]:
    reader = Reader(RAW)
    schemas = Schemas(reader)
    schemas.add(7, schema)
    batch = decode([frame(7, encode(plain_schema(schema), r)) for r in records], schemas)
    assert not batch.bad
    return batch, reader


def read(schema: dict[str, Any], buffer: np.ndarray, offsets: np.ndarray) -> list[Any]:
    parsed = fastavro.parse_schema(plain_schema(schema))
    out = []
    for begin, end in pairwise(offsets.tolist()):
        value = buffer[begin:end].tobytes()
        assert value[:5] == b"\0\0\0\0\x08"
        out.append(fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, None))
    return out


@BOTH
@pytest.mark.parametrize("text", ["Unknown", "a name that is longer than a view is"])
def test_a_missing_name_becomes_the_default_of_its_rule(run: Pass, text: str):
    batch, reader = decoded(RAW, {**STORE, "manager": None}, {**STORE, "manager": "Ada"}, {**STORE, "manager": " "})
    changes = {"manager": (np.array([0, 2]), text)}
    buffer, offsets = Target(CLEAN, reader).encode(batch, batch.parts[0], 8, changes, run)
    assert read(CLEAN, buffer, offsets) == [{**STORE, "manager": m} for m in (text, "Ada", text)]
    # The frame that was made before keeps its values.
    assert batch.table["manager"].to_list() == [None, "Ada", " "]


@BOTH
def test_a_null_without_a_default_is_an_error_not_a_record(run: Pass):
    batch, reader = decoded(RAW, {**STORE, "manager": "Ada"}, {**STORE, "manager": None})
    with pytest.raises(NullValue, match="record 1 holds null in a field that the target requires"):
        Target(CLEAN, reader).encode(batch, batch.parts[0], 8, run=run)


@BOTH
def test_extra_fields_follow_as_the_bytes_they_were(run: Pass):
    store = {**STORE, "manager": "Ada", "tree": {"part_of": {"part_of": None}}, "price": b"\0\x80"}
    batch, reader = decoded(NEWER, store, {**store, "tree": None})
    part = batch.parts[0]
    schema = derived_schema(CLEAN, part.branch)
    buffer, offsets = Target(CLEAN, reader).encode(batch, part, 8, run=run)
    assert read(schema, buffer, offsets) == [store, {**store, "tree": None}]
    assert [f["name"] for f in schema["fields"]] == [*(f["name"] for f in CLEAN["fields"]), "tree", "price"]
    assert buffer.tobytes().endswith(b"\0" + b"\4\0\x80")


@BOTH
def test_a_part_of_some_rows_is_written_in_their_order(run: Pass):
    batch, reader = decoded(NEWER, *({**STORE, "manager": str(i), "tree": None, "price": b"%d" % i} for i in range(5)))
    part = batch.parts[0].only(np.array([False, True, False, True, True]))
    written = read(derived_schema(CLEAN, part.branch), *Target(CLEAN, reader).encode(batch, part, 8, run=run))
    assert [(r["manager"], r["price"]) for r in written] == [("1", b"1"), ("3", b"3"), ("4", b"4")]


def test_records_whose_fields_begin_with_the_targets_are_not_written_anew():
    reader = Reader(SALES)
    schemas, target = Schemas(reader), Target(SALES, reader)
    more = {"name": "note", "type": ["null", "string"], "default": None}
    assert target.is_written_by(schemas.add(1, SALES))
    assert target.is_written_by(schemas.add(2, {**SALES, "fields": [*SALES["fields"], more]}))
    assert not target.is_written_by(schemas.add(3, {**SALES, "fields": [more, *SALES["fields"]]}))
    assert not target.is_written_by(schemas.add(4, {**SALES, "fields": SALES["fields"][::-1]}))
    assert not target.is_written_by(schemas.add(5, [SALES]))
    assert not target.is_written_by(schemas.add(6, "junk"))
    millis = {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    fields = [millis if f["name"] == "event_time" else f for f in SALES["fields"]]
    assert not target.is_written_by(schemas.add(7, {**SALES, "fields": fields}))
    assert not Target(CLEAN, Reader(RAW)).is_written_by(Schemas(Reader(RAW)).add(8, RAW))


@pytest.mark.parametrize("entity", list(Entity))
def test_the_contracts_schemas_are_readers_and_targets(entity: Entity):
    raw, clean, evolved = (
        json.loads((SCHEMAS / kind / f"{entity}.avsc").read_text()) for kind in ("raw", "clean", "evolved")
    )
    schemas = Schemas(Reader(raw))
    assert not schemas.add(1, raw).refusal
    assert not schemas.add(2, evolved).refusal
    assert Target(clean, schemas.reader).is_written_by(schemas[1]) == (entity in (Entity.SALES, Entity.PRODUCTS))
    assert not Schemas(Reader(clean)).add(3, derived_schema(clean, schemas[2].branches[0])).refusal


@pytest.mark.parametrize("wanted", ["string", "long", {"type": "long", "logicalType": "timestamp-millis"}])
def test_a_target_has_only_the_readers_fields(wanted: Any):
    schema = {"type": "record", "name": "Store", "fields": [{"name": "open_date", "type": wanted}]}
    with pytest.raises(SchemaError, match=r"has the field open_date of type .*; the reader has long"):
        Target(schema, Reader(RAW))


def test_a_derived_schema_needs_no_other_and_keeps_the_writers_types_apart():
    money = {"type": "record", "name": "Money", "namespace": "", "fields": [{"name": "cents", "type": "long"}]}
    extra = [
        {"name": "inside", "type": ["null", "retail_stream.Store"], "default": None},
        {"name": "price", "type": "com.acme.Price"},
        {"name": "more", "type": {"type": "array", "items": "com.acme.Price"}, "doc": "kept"},
        {"name": "plain", "type": ["null", "Money"]},
    ]
    price = {"type": "record", "name": "com.acme.Price", "fields": [{"name": "of", "type": "Money"}]}
    schemas = Schemas(Reader(RAW))
    plan = schemas.add(7, {**RAW, "fields": [*RAW["fields"], *extra]}, {"com.acme.Price": price, "Money": money})
    schema = derived_schema(CLEAN, plan.branches[0])
    # No name is used before it is declared, whatever parses it.
    parsed = parse(schema)
    fastavro.parse_schema(json.loads(json.dumps(schema)))
    types = {f.name: f.type for f in parsed.fields}
    assert types["inside"].parts[1].name == "retail_stream.written.Store"
    assert len(types["inside"].parts[1].fields) == len(RAW["fields"]) + len(extra)
    assert types["more"].parts[0] is types["price"]
    assert types["price"].fields[0].type.name == "retail_stream.Money"
    assert schema["fields"][-2]["doc"] == "kept"
