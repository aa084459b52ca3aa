"""Publishes the raw records of cases, written with fastavro, which the services do not use."""

import io
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import fastavro
from confluent_kafka import Producer

from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.entities import FIELDS, Entity
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SEQUENCE_TIME
from retail_stream.settings import Connections
from tests.golden.cases import NUMBER, Case, Raw

DAY = "2025-03-03"
#: A record of a case: the case's name, the entity, and the record's number.
Name = tuple[str, Entity, str]
#: Entity, partition and offset in the raw topic.
Place = tuple[Entity, int, int]

#: What a record has in the fields for which a case has no column or an empty cell.
_REST: Mapping[Entity, Mapping[str, str]] = {
    Entity.SALES: {
        "customer_id": "1", "product_id": "1", "quantity": "1", "unit_price": "10.00", "total_amount": "10.00",
        "payment_method": "card", "discount_applied": "0.00", "tax_amount": "0.00",
    },
    Entity.CUSTOMERS: {
        "name": "Ann", "email": "a@shop.example", "address": "1 High Street", "join_date": "00:00:00",
        "loyalty_points": "0", "phone_number": "1", "age": "30", "gender": "f",
    },
    Entity.PRODUCTS: {
        "name": "Scarf", "category": "Tops", "brand": "Own", "price": "10.00", "stock_quantity": "1", "size": "M",
        "color": "red", "description": "warm",
    },
    Entity.STORES: {
        "name": "Corner", "address": "1 High Street", "manager": "Ada", "open_date": "00:00:00", "status": "open",
        "phone_number": "1",
    },
}  # fmt: skip


def micros(time: str) -> int:
    """Microseconds since 1970 of a time of the day."""
    moment = datetime.fromisoformat(f"{DAY}T{time}+00:00")
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def publish(connections: Connections, cases: Iterable[Case]) -> dict[Name, Place]:
    """Publish the records of each case in order; returns where they are."""
    registry, producer = Registry(connections.schema_registry_url), clients.producer(connections)
    places: dict[Name, Place] = {}
    for case in cases:
        for record in case.raw:
            _produce(registry, producer, record, (case.name, record.entity, record.cells[NUMBER]), places)
    assert producer.flush(30) == 0
    return places


def _produce(registry: Registry, producer: Producer, record: Raw, name: Name, places: dict[Name, Place]) -> None:
    entity, cells = record.entity, record.cells

    def delivered(error: object, message: Any) -> None:
        assert error is None, error
        places[name] = entity, record.partition, message.offset()

    headers = [(SEQUENCE_TIME, micros(at).to_bytes(8, "big"))] if (at := cells.get("sequence.time")) else []
    producer.produce(
        topics.raw(entity),
        None if cells.get("value") == "null" else _value(registry, record),
        cells.get("key") or cells[FIELDS[entity].key],
        record.partition,
        timestamp=micros(cells["published"]) // 1000,
        headers=headers,
        on_delivery=delivered,
    )


def _value(registry: Registry, record: Raw) -> bytes:
    raw = topics.topic(topics.raw(record.entity))
    schema = record.writer or raw.schema()
    cells = {**_REST[record.entity], **{name: cell for name, cell in record.cells.items() if cell}}
    out = io.BytesIO()
    fields = {f["name"]: _field(cells[f["name"]], f["type"]) for f in schema["fields"]}
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), fields)
    return b"\0" + registry.register(raw.subject, schema).to_bytes(4, "big") + out.getvalue()


def _field(cell: str, kind: Any) -> Any:
    match kind:
        case ["null", other]:
            return None if cell == "null" else _field(cell, other)
        case {"logicalType": "timestamp-micros"}:
            return micros(cell)
        case {"logicalType": "timestamp-millis"}:
            return micros(cell) // 1000
        case "int" | "long":
            return int(cell)
        case "double":
            return float(cell)
    return json.loads(cell) if cell.startswith('"') else cell
