"""Records for Kafka as rows of the outbox, written in the transaction of the results; relay.py publishes them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
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
from services.aggregator.lifecycle import REVISION, STATE
from services.aggregator.step import LATE, PARTITION, Rules
from services.aggregator.totals import CENTS, COUNTS, ID, KIND, KINDS, SIZE, START
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


class Encoder:
    """Encodes the decisions of a step as records."""

    def __init__(self, ids: Mapping[Result, int], rules: Rules) -> None:
        """``ids``: the registry's id of each of :func:`schemas`."""
        self._avro = {
            t: partial(encode, cast("AvroSchema", fastavro.parse_schema(plain_schema(s)))) for t, s in schemas().items()
        }
        self._ids = ids
        self._rules = rules
        self._names = {w.size: w.name for w in rules.windows}

    def _value(self, topic: Result, record: dict[str, Any]) -> bytes:
        return frame(self._ids[topic], self._avro[topic](record))

    def rises(self, rises: Iterable[Rise], now: int) -> list[OutboxRecord]:
        """Records of `sales.watermarks`, in the partition of the same number; the number is the key, too.

        ``now``: microseconds, here and below.
        """
        return [
            OutboxRecord(
                Result.WATERMARKS,
                r.partition,
                str(r.partition).encode(),
                self._value(
                    Result.WATERMARKS,
                    {"partition": r.partition, "next_offset": r.next_offset, "watermark": r.watermark},
                ),
                (),
                now // 1000,
            )
            for r in rises
        ]

    def windows(self, results: pl.DataFrame, now: int) -> list[OutboxRecord]:
        """Records of `sales.windows`, keyed by the id; ``results``: of a :class:`lifecycle.WindowUpdate`."""
        records = []
        for row in results.iter_rows(named=True):
            net = row["gross_sales"] - row["returns_amount"] - row["discounts"]
            value = {
                "kind": row[KIND],
                "window_size": self._names[row[SIZE]],
                "window_start": row[START],
                "window_end": row[START] + row[SIZE],
                **{column: row[ID] if kind == row[KIND] else None for kind, column in KINDS.items()},
                **{c: row[c] for c in COUNTS},
                **{c: _decimal(row[c]) for c in CENTS},
                "net_sales": _decimal(net),
                "revision": row[REVISION],
                "state": row[STATE],
                "updated_at": now,
            }
            key = str(row[ID]).encode()
            encoded = self._value(Result.WINDOWS, value)
            records.append(OutboxRecord(Result.WINDOWS, None, key, encoded, (), now // 1000))
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
