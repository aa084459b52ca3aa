"""Random reader schemas, writer schemas that grew away from them, and records of the writer as bytes.

Written without the code under test: values are encoded here, branch by branch, because a library's encoder would choose
the branches itself.
"""

import copy
import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.harness.avro_values import TEXTS, Json, value, varint

TIMES = tuple(f"{local}timestamp-{unit}" for local in ("", "local-") for unit in ("millis", "micros", "nanos"))
PRIMITIVES = ("boolean", "int", "long", "float", "double", "string", "bytes")
# Words of SQL, names of internal columns, names with a meaning elsewhere.
NAMES = ("quantity", "user", "row", "key", "__nested", "__row", "select", "order", "extra", "value", "a", "b", "c", "d")


@dataclass
class Written:
    """A record: its bytes, those of each field, and the type (after unions) that each field's value has."""

    body: bytes
    parts: dict[str, bytes]
    types: dict[str, Json]


@dataclass
class Evolution:
    """``defaults``: reader field → the value of its default, for the valid ones only."""

    reader: dict[str, Json]
    writer: Json
    references: dict[str, Json]
    defaults: dict[str, Any]
    records: list[Written]


@dataclass
class _World:
    rng: Random
    declared: dict[str, Json] = field(default_factory=dict)
    serial: int = 0

    def name(self) -> str:
        self.serial += 1
        return f"{self.rng.choice(['com.acme', 'retail_stream', 'other'])}.T{self.serial}"


def evolution(rng: Random, records: int = 6) -> Evolution:
    """One reader, one writer and some of its records."""
    world = _World(rng)
    names = rng.sample(NAMES, rng.randint(1, 7))
    defaults: dict[str, Any] = {}
    fields = [_reader_field(world, name, defaults) for name in names]
    reader = {"type": "record", "name": "Sale", "namespace": "retail_stream", "fields": fields}
    if rng.random() < 0.2:
        reader["aliases"] = ["Receipt"]
    record = {**reader, "fields": _evolved(world, fields)}
    record.pop("aliases", None)
    match rng.randrange(16):
        case 0:
            record["name"] = "Receipt"
        case 1:
            record["namespace"] = "com.acme"
        case 2:
            record["name"] = "Refund"
        case 3 | 4 if "aliases" in reader:
            record["name"] = "Receipt"
    world.declared[f"{record['namespace']}.{record['name']}"] = record
    writer: Json = record
    if rng.random() < 0.15:
        refund = {"type": "record", "name": "com.acme.Refund", "fields": [{"name": "reason", "type": "string"}]}
        writer = ["null", record, refund] if rng.random() < 0.5 else [refund, record]
    references: dict[str, Json] = {}
    if rng.random() < 0.2:
        references = _moved_out(record, world)
    return Evolution(reader, writer, references, defaults, [_record(world, writer) for _ in range(records)])


def _scalar(world: _World) -> Json:
    rng = world.rng
    match rng.randrange(12):
        case 0:
            return {"type": "long", "logicalType": "timestamp-micros"}
        case 1:
            return {"type": "enum", "name": world.name(), "symbols": rng.sample("ABCDE", 3)}
        case 2:
            return {"type": "fixed", "name": world.name(), "size": rng.choice([0, 1, 8, 12, 13, 40])}
        case _:
            return rng.choice(PRIMITIVES)


def _reader_field(world: _World, name: str, defaults: dict[str, Any]) -> dict[str, Json]:
    rng = world.rng
    scalar = _scalar(world)
    if isinstance(scalar, dict) and scalar["type"] == "enum" and rng.random() < 0.5:
        scalar["default"] = rng.choice(scalar["symbols"])
    nullable = rng.random() < 0.4
    made: dict[str, Json] = {"name": name, "type": scalar}
    if nullable:
        made["type"] = rng.choice([["null", scalar], [scalar, "null"]])
    if rng.random() < 0.3:
        made["aliases"] = [f"{name}_before"]
    if rng.random() < 0.5:
        made["default"], valid, value = _default(rng, scalar, nullable)
        if valid:
            defaults[name] = value
    return made


def _default(rng: Random, scalar: Json, nullable: bool) -> tuple[Json, bool, Any]:
    """JSON, whether it is valid, and its value."""
    if rng.random() < 0.2:
        return None, nullable, None
    if rng.random() < 0.2:
        return [], False, None
    kind = scalar["type"] if isinstance(scalar, dict) else scalar
    text = rng.choice(TEXTS)
    match kind:
        case "boolean":
            return True, True, True
        case "int":
            return (2**31, False, None) if rng.random() < 0.2 else (-5, True, -5)
        case "long":
            return (1.5, False, None) if rng.random() < 0.2 else (2**40, True, 2**40)
        case "float" | "double":
            return 1.5, True, 1.5
        case "string":
            return text, True, text
        case "bytes":
            return "ÿ\0 and so on until it is long", True, b"\xff\0 and so on until it is long"
        case "fixed":
            return "ÿ" * scalar["size"], True, b"\xff" * scalar["size"]
        case _:
            return ("Z", False, None) if rng.random() < 0.3 else (scalar["symbols"][0], True, scalar["symbols"][0])


def _evolved(world: _World, fields: list[dict[str, Json]]) -> list[dict[str, Json]]:
    rng = world.rng
    out: list[dict[str, Json]] = []
    calm = rng.random() < 0.5
    for old in fields:
        new = copy.deepcopy({k: v for k, v in old.items() if k != "aliases"})
        if rng.random() < (0.02 if calm else 0.1) * (3 if "default" in old else 1):
            continue
        if rng.random() < (0.4 if "aliases" in old else 0.02):
            new["name"] += "_before"
        if rng.random() < (0.3 if calm else 0.6):
            new["type"] = _changed(world, new["type"], calm)
        if rng.random() < 0.2:
            new["default"] = rng.choice([None, [], "x", 1e9, {"no": "sense"}])
        out.append(new)
    for i in range(rng.randint(0, 3)):
        default = {"default": rng.choice([None, "", 7])} if rng.random() < 0.3 else {}
        out.append({"name": f"{rng.choice(['__row', 'user', 'note', 'tags'])}_{i}", "type": _any(world, 0), **default})
    if rng.random() < 0.4:
        rng.shuffle(out)
    return [_register(world, f) for f in out]


def _changed(world: _World, old: Json, calm: bool) -> Json:
    rng = world.rng
    branches = old if isinstance(old, list) else [old]
    scalar = next(b for b in branches if b != "null")
    match rng.randrange(4 if calm else 8):
        case 0:
            return _narrower(rng, scalar)
        case 1:
            return ["null", scalar]
        case 2:
            return [_narrower(rng, scalar), "null"]
        case 3:
            return scalar
        case 4:
            return {"type": "record", "name": world.name(), "fields": [{"name": "inner", "type": scalar}]}
        case 5:
            more = ["null", "boolean", "int", "double", "string", "bytes"]
            # Avro has no union with two branches of one kind.
            rest = [m for m in rng.sample(more, 3) if m != (scalar["type"] if isinstance(scalar, dict) else scalar)]
            return [*rest, scalar, {"type": "array", "items": "int"}]
        case 6:
            return _scalar(world)
        case _:
            return _any(world, 1)


def _narrower(rng: Random, scalar: Json) -> Json:
    """A type that the reader may read as ``scalar``, or one that only looks like it."""
    if isinstance(scalar, dict) and scalar["type"] == "long":
        return {"type": "long", "logicalType": rng.choice(TIMES)} if rng.random() < 0.7 else "long"
    if isinstance(scalar, dict):
        changed = {**scalar, "name": scalar["name"] if rng.random() < 0.7 else scalar["name"].replace("T", "U")}
        if scalar["type"] == "enum":
            changed["symbols"] = rng.sample("ABCDEF", 4)
        return changed
    narrower: dict[str, list[Json]] = {"long": ["int"], "float": ["int", "long"], "double": ["int", "long", "float"]}
    narrower |= {"string": ["bytes"], "bytes": ["string", {"type": "bytes", "logicalType": "decimal", "precision": 4}]}
    return rng.choice(narrower.get(scalar, [scalar]))


def _any(world: _World, depth: int, within: str = "") -> Json:
    rng = world.rng
    kinds = ["scalar", "scalar", "logical"] + (["array", "map", "union", "record", "recursive"] if depth < 3 else [])
    match rng.choice(kinds):
        case "array":
            return {"type": "array", "items": _any(world, depth + 1)}
        case "map":
            return {"type": "map", "values": _any(world, depth + 1)}
        case "union":
            return ["null", *rng.sample(["int", "long", "double", "string"], 2), {"type": "array", "items": "null"}]
        case "record":
            fields = [{"name": f"f{i}", "type": _any(world, depth + 1)} for i in range(rng.randint(0, 3))]
            return {"type": "record", "name": world.name(), "fields": fields}
        case "recursive":
            name = world.name()
            again = rng.choice([["null", name], {"type": "array", "items": name}, {"type": "map", "values": name}])
            fields = [{"name": "v", "type": _any(world, depth + 1)}, {"name": "more", "type": again}]
            return {"type": "record", "name": name, "fields": fields}
        case "logical":
            decimal = {"logicalType": "decimal", "precision": 10, "scale": 2}
            return rng.choice(
                [
                    {"type": "bytes", **decimal},
                    {"type": "fixed", "name": world.name(), "size": 5, **decimal},
                    {"type": "string", "logicalType": "uuid"},
                    {"type": "int", "logicalType": "date"},
                    {"type": "long", "logicalType": rng.choice(TIMES)},
                ]
            )
        case _:
            return _scalar(world)


def _register(world: _World, node: Json) -> Json:
    """Note all declared types; a name that is declared a second time becomes a reference."""
    if isinstance(node, list):
        return [_register(world, n) for n in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") in ("record", "enum", "fixed"):
        if node["name"] in world.declared:
            return node["name"]
        world.declared[node["name"]] = node
        if node["type"] == "record":
            node["fields"] = [{**f, "type": _register(world, f["type"])} for f in node["fields"]]
        return node
    return {k: _register(world, v) if k in ("type", "items", "values") else v for k, v in node.items()}


def _moved_out(record: dict[str, Json], world: _World) -> dict[str, Json]:
    """Types of fields moved to other subjects: the field keeps their names only."""
    moved = {}
    for f in record["fields"]:
        if isinstance(f["type"], dict) and f["type"].get("type") in ("record", "enum", "fixed"):
            moved[f["type"]["name"]] = f["type"]
            f["type"] = f["type"]["name"]
    return dict(world.rng.sample(sorted(moved.items()), len(moved)))


def _record(world: _World, writer: Json) -> Written:
    head, record = b"", writer
    if isinstance(writer, list):
        chosen = world.rng.choice(
            [i for i, b in enumerate(writer) for _ in range(5 if b["name"] == "Sale" else 1)]
            if all(isinstance(b, dict) for b in writer)
            else range(len(writer))
        )
        head, record = varint(chosen), writer[chosen]
    if record == "null":
        return Written(head, {}, {})
    parts, types = {}, {}
    for f in record["fields"]:
        parts[f["name"]], types[f["name"]] = value(world.rng, f["type"], world.declared)
    return Written(head + b"".join(parts.values()), parts, types)


def text(e: Evolution) -> str:
    """For a failure's message."""
    return json.dumps({"reader": e.reader, "writer": e.writer, "references": e.references}, indent=1)
