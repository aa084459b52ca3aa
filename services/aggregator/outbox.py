"""Records for Kafka as rows of the outbox, written in the transaction of the results; relay.py publishes them."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import fastavro
import polars as pl
from sqlalchemy import Connection

from retail_stream.avro.decode import encode, frame
from retail_stream.avro.schema import AvroSchema, plain_schema
from retail_stream.kafka.batches import OFFSET
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.headers import headers_of
from retail_stream.topics import Result, topic
from retail_stream.warehouse import postgres
from services.aggregator import late
from services.aggregator.declared import CENTS, COUNTS, MEASURES, NET, SHIPPED, Declarations
from services.aggregator.step import LATE, PARTITION, Rules
from services.aggregator.totals import END, ID, REVISION, SIZE, START, STATE, Grouping
from services.aggregator.warehouse import instant
from services.aggregator.watermark import BEFORE, Rise
from services.aggregator.windows import SECOND

# Headers, in UTF-8: the windows that were missed and the seconds by which (lists of one length), the watermark.
LATE_WINDOWS, LATE_BY, LATE_WATERMARK, CLEAN_OFFSET = "late.windows", "late.by_s", "late.watermark", "clean.offset"


@dataclass(frozen=True)
class OutboxRecord:
    """A record to be published; ``partition`` None: the partition of the key."""

    topic: Result
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


def schemas() -> Mapping[Result, Mapping[str, Any]]:
    """Avro schemas of `sales.windows` and `sales.watermarks`, the two topics that have values of their own."""
    return {t: topic(t).schema() for t in (Result.WINDOWS, Result.WATERMARKS)}


def further_schema(declarations: Declarations) -> Mapping[str, Any] | None:
    """The Avro schema of `sales.windows` for entries beside those of the contract; None if there are none.

    It is a later version of the topic's: a field for each further key, and each measure may be null. Records of stores
    and products keep the schema that they always had.
    """
    keys = {a.by: a.holds for a in declarations.aggregations if a.name not in SHIPPED}
    if not keys:
        return None
    schema = topic(Result.WINDOWS).schema()
    fields = [
        {**f, "type": ["null", f["type"]], "default": None} if f["name"] in MEASURES else f for f in schema["fields"]
    ]
    added = [{"name": k, "type": ["null", holds], "default": None} for k, holds in sorted(keys.items())]
    return {**schema, "fields": [*fields, *(f for f in added if f["name"] not in SHIPPED.values())]}


class Encoder:
    """Encodes the decisions of a step as records."""

    def __init__(self, ids: Mapping[Result, int], rules: Rules, further: int = 0) -> None:
        """``ids``: the registry's id of each of :func:`schemas`; ``further``: that of :func:`further_schema`."""
        self._avro = {t: _encoding(ids[t], schema) for t, schema in schemas().items()}
        schema = further_schema(rules.declared)
        self._further = self._avro[Result.WINDOWS] if schema is None else _encoding(further, schema)
        self._keys = {*SHIPPED.values(), *(g.declared.by for g in rules.groupings)}
        self._rules = rules
        self._names = {w.size: w.name for w in rules.windows}

    def rises(self, rises: Iterable[Rise], now: int) -> list[OutboxRecord]:
        """Records of `sales.watermarks`, in the partition of the same number; the number is the key, too.

        ``now``: microseconds, here and below.
        """
        return [
            OutboxRecord(
                Result.WATERMARKS,
                r.partition,
                str(r.partition).encode(),
                self._avro[Result.WATERMARKS](
                    {"partition": r.partition, "next_offset": r.next_offset, "watermark": r.watermark}
                ),
                (),
                now // 1000,
            )
            for r in rises
        ]

    def windows(self, grouping: Grouping, results: pl.DataFrame, now: int) -> list[OutboxRecord]:
        """Records of `sales.windows`, keyed by the id; ``results``: of a :class:`lifecycle.WindowUpdate`."""
        encoded = self._avro[Result.WINDOWS] if grouping.name in SHIPPED else self._further
        has_net = NET in grouping.declared.measures
        records = []
        for row in results.iter_rows(named=True):
            value = {
                "kind": grouping.name,
                "window_size": self._names[row[SIZE]],
                "window_start": row[START],
                "window_end": row.get(END, row[START] + row[SIZE]),
                **dict.fromkeys(self._keys),
                grouping.declared.by: row[ID],
                **{c: row.get(c) for c in COUNTS},
                **{c: _decimal(row[c]) if c in row else None for c in CENTS},
                NET: _decimal(row["gross_sales"] - row["returns_amount"] - row["discounts"]) if has_net else None,
                "revision": row[REVISION],
                "state": row[STATE],
                "updated_at": now,
            }
            key = str(row[ID]).encode()
            records.append(OutboxRecord(Result.WINDOWS, None, key, encoded(value), (), now // 1000))
        return records

    def late(self, sales: pl.DataFrame, records: Mapping[int, PartitionRecords]) -> list[OutboxRecord]:
        """Records of `sales.late`: the clean record as it is, in the same partition, with headers that say why.

        ``sales``: of a :class:`step.Step`; ``records``: the batch that they came from.
        """
        rows = sales.filter(LATE).select(PARTITION, OFFSET, "event_time", BEFORE).rows() if sales.height else []
        return [self._late(*records[p].find(offset), time, before) for p, offset, time, before in rows]

    def _late(self, columns: Columns, row: int, event_time: int, watermark: int) -> OutboxRecord:
        missed = late.missed(self._rules, event_time, watermark)
        why = {
            LATE_WINDOWS: ",".join(f"{m.window.name}@{_iso(m.start)}" for m in missed),
            LATE_BY: ",".join(f"{m.by / SECOND:.6f}" for m in missed),
            LATE_WATERMARK: _iso(watermark),
            CLEAN_OFFSET: str(columns.offset[row]),
        }
        headers = [
            *((_text(name), value) for name, value in headers_of(columns, row)),
            *((n, v.encode()) for n, v in why.items()),
        ]
        key, value, stamp = columns.key(row), columns.value(row), int(columns.timestamp[row])
        return OutboxRecord(Result.LATE, columns.partition, key, value, tuple(headers), stamp)


def put(connection: Connection, records: Iterable[OutboxRecord]) -> bool:
    """Write records to the outbox, in order; return whether there were any."""
    rows = [
        (
            r.topic.value,
            r.partition,
            _hex(r.key),
            _hex(r.value),
            json.dumps([[name, None if value is None else value.hex()] for name, value in r.headers]),
            r.timestamp_ms,
        )
        for r in records
    ]
    if rows:
        columns = ["topic", "partition", "key", "value", "headers", "timestamp_ms"]
        postgres.copy(connection, "outbox", pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None))
    return bool(rows)


def _encoding(schema_id: int, schema: Mapping[str, Any]) -> Callable[[dict[str, Any]], bytes]:
    """Encodes records of a schema as framed values."""
    plain = cast("AvroSchema", fastavro.parse_schema(plain_schema(schema)))
    return lambda record: frame(schema_id, encode(plain, record))


def _text(name: bytes) -> str:
    """A header's name as JSON and Postgres can hold it."""
    return name.decode(errors="replace").replace("\0", "\ufffd")


def _hex(value: bytes | None) -> str | None:
    return None if value is None else "\\x" + value.hex()


def _decimal(cents: int) -> bytes:
    """Avro's decimal of scale 2: the unscaled number, big-endian two's complement."""
    return cents.to_bytes(cents.bit_length() // 8 + 1, "big", signed=True)


def _iso(micros: int) -> str:
    return f"{instant(micros):%Y-%m-%dT%H:%M:%S.%f}Z"
