"""What the registry holds becomes schemas that need no other."""

from types import SimpleNamespace
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaReference

from retail_stream.avro.registry import Registry
from retail_stream.avro.types import parse


class Client:
    """Versions 1 of a few subjects."""

    def __init__(self, **schemas: Schema) -> None:
        self._schemas = schemas

    def get_versions(self, subject: str) -> list[int]:
        return [1]

    def get_version(self, subject: str, version: int) -> Any:
        return SimpleNamespace(schema_id=7, schema=self._schemas[subject])


def schema_of(subject: str, **schemas: Schema) -> Any:
    registry = Registry("http://127.0.0.1:1")
    registry._client = Client(**schemas)  # type: ignore[assignment]
    return registry.versions(subject)[1][1]


def test_types_of_other_subjects_are_written_out_also_those_that_they_refer_to() -> None:
    sale = Schema(
        '{"type": "record", "name": "Sale", "namespace": "s", "fields": [{"name": "paid", "type": "m.Money"}]}',
        "AVRO",
        [SchemaReference("m.Money", "money", 1)],
    )
    money = Schema(
        '{"type": "record", "name": "m.Money", "fields": [{"name": "unit", "type": "m.Unit"}]}',
        "AVRO",
        [SchemaReference("m.Unit", "unit", 1)],
    )
    unit = Schema('{"type": "enum", "name": "m.Unit", "symbols": ["EUR"]}', "AVRO")
    found = schema_of("sale", sale=sale, money=money, unit=unit)
    (paid,) = parse(found).fields
    assert (paid.type.name, paid.type.fields[0].type.symbols) == ("m.Money", ["EUR"])


def test_a_schema_that_is_not_json_stays_text() -> None:
    assert schema_of("p", p=Schema("message Sale {}", "PROTOBUF")) == "message Sale {}"
