"""`retail-stream tail <topic>`: prints records of any topic, decoded, one JSON object a line."""

import base64
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Message, TopicPartition

from retail_stream.avro.decode import HEADER_BYTES, schema_id
from retail_stream.avro.schema import AvroSchema, plain_schema
from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.kafka import clients
from retail_stream.kafka.headers import big_endian, header_list
from retail_stream.kafka.offsets import topic_partitions
from retail_stream.kafka.reading import by_partition
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

#: Schema id → the parsed schema; None where the registry has no such id.
Schemas = Callable[[int], AvroSchema | None]

_POLL_S = 0.5
_BATCH = 500
#: Ids are Java ints; a registry does not answer for larger ones.
_LARGEST_ID = 2**31 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def tail(
    connections: Connections, topic: str, schemas: Schemas, *, from_beginning: bool, wanted: int | None
) -> Iterator[str]:
    """Lines for committed records as they come: without end, or ``wanted`` of them.

    Raises:
        SettingsError: the topic does not exist; the sentence names the existing topics.
        Unavailable: Kafka does not answer for 30 s.
    """
    places = wait_for(lambda: topic_partitions(connections, topic), COMMAND_PATIENCE_S)
    if not places:
        there = sorted(t for t in clients.admin(connections).list_topics(timeout=10).topics if not t.startswith("_"))
        raise SettingsError(f"Kafka has no topic {topic!r}; it has: {', '.join(there) or 'none'}.")
    reader = clients.consumer(connections, "retail-stream.tail")
    try:
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        reader.assign([TopicPartition(t, p, start) for t, p in places])
        while wanted is None or wanted > 0:
            messages = reader.consume(1, _POLL_S)
            if messages:
                messages += reader.consume(_BATCH, 0)
            records, _ = by_partition(messages)
            for message in (m for some in records.values() for m in some):
                yield line(message, schemas)
                if wanted is not None and (wanted := wanted - 1) == 0:
                    return
    finally:
        reader.close()


def line(message: Message, schemas: Schemas) -> str:
    """One record as a JSON object: its place, time, key, headers and value.

    Bytes that are not text, a number or Avro of a registered schema are shown as ``{"base64": …}``, and a repeated
    header as the list of its values. ``NaN`` and ``Infinity`` are strings. Times outside the years 1 to 9999 are
    numbers.
    """
    _, stamp = message.timestamp()
    shown = {
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": _time(stamp),
        "key": _bytes(message.key()),
        "headers": _headers(header_list(message)),
        "value": _value(message.value(), schemas),
    }
    return json.dumps(_plain(shown), ensure_ascii=False, allow_nan=False)


def _time(stamp_ms: int) -> datetime | int:
    try:
        return _EPOCH + timedelta(milliseconds=stamp_ms)
    except OverflowError:
        return stamp_ms


def _headers(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, Any]:
    by_name: dict[str, list[Any]] = {}
    for name, value in headers:
        by_name.setdefault(name, []).append(_header(value))
    return {name: values[0] if len(values) == 1 else values for name, values in by_name.items()}


def _value(value: bytes | None, schemas: Schemas) -> Any:
    number = schema_id(value)
    if value is None or number is None or number > _LARGEST_ID or (schema := schemas(number)) is None:
        return _bytes(value)
    # The second schema reads times as numbers, for times that datetime cannot hold.
    readers: tuple[Callable[[], AvroSchema], ...] = (lambda: schema, lambda: plain_schema(schema))
    for reader in readers:
        source = io.BytesIO(value[HEADER_BYTES:])
        try:
            record = fastavro.schemaless_reader(source, dict(reader()), None)
        except OverflowError:
            continue
        except (EOFError, ValueError, IndexError, TypeError, KeyError):
            break
        if source.tell() == len(value) - HEADER_BYTES:
            return record
        break
    return _bytes(value)


def _header(value: bytes | None) -> Any:
    """A header's value. Eight bytes that begin with zero are a number of the contract; text does not begin so."""
    return big_endian(value) if value is not None and len(value) == 8 and value[:1] == b"\0" else _bytes(value)


def _bytes(value: bytes | None) -> Any:
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        text = None
    if value is None or (text is not None and text.isprintable()):
        return text
    return {"base64": base64.b64encode(value).decode()}


def _plain(value: Any) -> Any:
    """The same value in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return _bytes(value)
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def registered(connections: Connections) -> Schemas:
    """A lookup in the registry that asks for each id once.

    Raises (when called):
        RetailStreamError: the schema is not valid Avro.
        Unavailable: the registry does not answer for 30 s.
    """
    from retail_stream.avro.registry import Registry

    registry = Registry(connections.schema_registry_url)
    known: dict[int, AvroSchema | None] = {}

    def find(number: int) -> AvroSchema | None:
        if number not in known:
            schema = wait_for(lambda: registry.schema(number), COMMAND_PATIENCE_S)
            try:
                known[number] = None if schema is None else fastavro.parse_schema(dict(schema))  # type: ignore[assignment]
            except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as e:
                raise RetailStreamError(f"Schema {number} of the registry is not a valid Avro schema: {e}.") from e
        return known[number]

    return find
