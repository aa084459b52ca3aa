"""A stream of which `verify` has something to compare in every table and topic."""

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import fastavro
from confluent_kafka import Message, Producer

from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.kafka import clients
from retail_stream.kafka.headers import REPLAY_OF, SOURCE_OFFSET, big_endian, headers_by_name
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Result, clean, raw, topic
from tests.integration.commands.verify.damages import altered

_LONGEST = 512


def publish_more(connections: Connections) -> None:
    """Publish sales for windows that have fired, and replays of all entities, one with a header of 600 bytes."""
    producer = clients.producer(connections)
    good = {entity: list(_good(connections, entity)) for entity in Entity}
    oldest = sorted(good[Entity.SALES], key=lambda m: m.timestamp()[1])[:40]
    for m in oldest:
        _publish(producer, m, _renumbered(m.value() or b""), {})
    for entity in (Entity.SALES, *DIMENSIONS):
        for m in good[entity][:2]:
            name = f"{raw(entity)}/{m.partition()}/{m.offset()}".encode()
            _publish(producer, m, m.value(), {REPLAY_OF: name if m is good[entity][0] else name.ljust(_LONGEST + 88)})
    assert producer.flush(30) == 0


def _good(connections: Connections, entity: Entity) -> Iterator[Message]:
    """The raw records that have a clean one."""
    kept = {
        (m.partition(), big_endian(headers_by_name(m).get(SOURCE_OFFSET)))
        for m in read_to_end(connections, clean(entity))
    }
    for m in read_to_end(connections, raw(entity)):
        if m.value() is not None and (m.partition(), m.offset()) in kept:
            yield m


def _publish(producer: Producer, m: Message, value: bytes | None, headers: Mapping[str, bytes]) -> None:
    own = [*(m.headers() or ()), *headers.items()]
    producer.produce(m.topic(), value, m.key(), m.partition(), timestamp=m.timestamp()[1], headers=own)


def _renumbered(sale: bytes) -> bytes:
    """A sale, in Confluent's wire format, with another transaction_id: its first field, a zigzag varint."""
    end = next(i for i in range(5, len(sale)) if sale[i] < 0x80) + 1
    number = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(sale[5:end])) + 10_000_000
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return sale[:5] + bytes([*digits, number]) + sale[end:]


_SCHEMA = cast("dict[str, Any]", fastavro.parse_schema(topic(Result.WINDOWS).schema()))


def _read(m: Message, schema: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", fastavro.schemaless_reader(io.BytesIO((m.value() or b"")[5:]), schema, None))


def window(m: Message) -> dict[str, Any]:
    """The fields of a record of `sales.windows`."""
    return _read(m, _SCHEMA)


def window_key(m: Message) -> tuple[object, ...]:
    """Which window a record of `sales.windows` is of, and of which store or product."""
    r = window(m)
    return tuple(r[n] for n in ("kind", "window_size", "window_start", "store_id", "product_id"))


def window_damages(records: Sequence[Message]) -> Iterator[tuple[str, Message, Message]]:
    """Damages to each field of `sales.windows`, each to another record: (field, record, what is read instead)."""
    left = list(records)
    for field in _SCHEMA["fields"]:
        name = field["name"]
        if name == "updated_at":
            continue
        at = next((i for i, m in enumerate(left) if window(m)[name] is not None), None)
        if at is None:
            continue
        m = left.pop(at)
        record = window(m)
        record[name] = _another(record[name])
        out = io.BytesIO()
        fastavro.schemaless_writer(out, _SCHEMA, record)
        yield name, m, altered(m, value=(m.value() or b"")[:5] + out.getvalue())


def _another(value: Any) -> Any:
    match value:
        case "store":
            return "product"
        case "product":
            return "store"
        case "fired":
            return "final"
        case "final":
            return "fired"
        case str():
            return "7s"
        case datetime():
            return value + timedelta(seconds=5)
        case Decimal():
            return value + Decimal("0.01")
    return value + 1


def risen(m: Message, year: int) -> bytes:
    """A record of `sales.watermarks` with a watermark of another year."""
    schema = cast("dict[str, Any]", fastavro.parse_schema(topic(Result.WATERMARKS).schema()))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, {**_read(m, schema), "watermark": datetime(year, 1, 1, tzinfo=UTC)})
    return (m.value() or b"")[:5] + out.getvalue()
