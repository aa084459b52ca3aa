"""The schema of records that go on by a target's schema with their writer's extra fields behind it."""

from collections.abc import Mapping
from typing import Any

from retail_stream.avro.plan import Branch
from retail_stream.avro.types import AvroField, AvroType, References, SchemaError, full_name, parse

_HELD = {"array": "items", "map": "values"}


def derived_schema(target: Mapping[str, Any], branch: Branch) -> dict[str, Any]:
    """The target's fields, then the extra ones with their writer's types, as one schema that needs no other.

    A type is written out where it is first used and named afterwards. A type of the writer's that has the name of one
    of the target's (a sale inside a sale, say) gets a namespace of its own, since its layout is the writer's.
    """
    record = parse(target)
    scalars = (scalar for f in record.fields for scalar in (f.type, *f.type.parts))
    names = _Names(record.name, {record.name, *(s.name for s in scalars)})
    return {**target, "fields": [*target["fields"], *(names.field(f) for f in branch.extra)]}


def self_contained(schema: Any, references: References) -> Any:
    """The schema with the types of its references written out; as it is where it is not valid Avro."""
    try:
        return _Names("", set()).written(parse(schema, references))
    except SchemaError:
        return schema


class _Names:
    """Names that are declared already. All get a namespace: without one they would take that of where they stand."""

    def __init__(self, record: str, taken: set[str]) -> None:
        self._namespace = record.rpartition(".")[0]
        self._taken = taken
        self._declared: dict[int, str] = {}

    def field(self, field: AvroField) -> dict[str, Any]:
        """A field's JSON with its type written out; a type that is declared in the field itself moves to ``type``."""
        node = {k: v for k, v in field.node.items() if k not in _HELD.values()}
        return {**node, "type": self.written(field.type)}

    def written(self, avro_type: AvroType) -> Any:
        """The type's JSON, in which every name is declared before."""
        match avro_type.kind:
            case "union":
                return [self.written(b) for b in avro_type.parts]
            case "array" | "map":
                return {"type": avro_type.kind, _HELD[avro_type.kind]: self.written(avro_type.parts[0])}
            case "record" | "enum" | "fixed":
                return self._named(avro_type)
            case _:
                return avro_type.node

    def _named(self, avro_type: AvroType) -> Any:
        if id(avro_type) in self._declared:
            return self._declared[id(avro_type)]
        name = full_name(avro_type.name, self._namespace)
        while name in self._taken:
            namespace, _, short = name.rpartition(".")
            name = f"{namespace}.written.{short}".removeprefix(".")
        self._taken.add(name)
        self._declared[id(avro_type)] = name
        node = {**avro_type.node, "name": name.rpartition(".")[2], "namespace": name.rpartition(".")[0]}
        if avro_type.kind == "record":
            node["fields"] = [self.field(f) for f in avro_type.fields]
        return node
