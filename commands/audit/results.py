"""Tables of the result topics and of the outbox's rows for them: ``window_results``, ``late_results`` and ``rises``.

Each record has ``warehouse`` (the id of the warehouse whose outbox it comes from; null where it names none) and
``offset`` (null for a row of the outbox, which is not published yet).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from commands.audit.avro import HEADER_BYTES, AvroRecord, Decoder
from commands.audit.engine import Engine, create, insert
from commands.audit.records import FrameSchema, Header, Row, text
from commands.audit.windows import COUNTS, MONEY, span
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian
from retail_stream.topics import Result

OUTBOX_ID = "outbox.id"
#: Headers of a late sale: the windows that it missed, by how many seconds, and the watermark at which it came.
LATE_HEADERS = ("late.windows", "late.by_s", "late.watermark")


class ResultRecord(Protocol):
    """A record of a result topic: a Kafka message, or a row of the outbox."""

    def partition(self) -> int: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Sequence[Header] | None: ...


@dataclass(frozen=True)
class OutboxRecord:
    """A row of the outbox, as the record that the relay will make of it."""

    its_partition: int | None
    stamp_ms: int
    its_key: bytes | None
    its_value: bytes | None
    its_headers: Sequence[Header]

    def partition(self) -> int:
        return -1 if self.its_partition is None else self.its_partition

    def offset(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, self.stamp_ms

    def key(self) -> bytes | None:
        return self.its_key

    def value(self) -> bytes | None:
        return self.its_value

    def headers(self) -> Sequence[Header]:
        return self.its_headers


def outbox_records(engine: Engine, topic: Result) -> list[OutboxRecord]:
    """The rows of the loaded ``outbox`` that are for a topic, in the order in which they will be published."""
    # One row; verify has a line for that.
    mine = next((number for (number,) in engine.execute("SELECT id FROM warehouse_id").fetchall()), "")
    rows = engine.execute(
        "SELECT id, partition, timestamp_ms, key, value, headers FROM outbox WHERE topic = ? ORDER BY id", [topic.value]
    ).fetchall()
    return [
        OutboxRecord(
            partition,
            stamp,
            key,
            value,
            [
                *((n, None if v is None else bytes.fromhex(v)) for n, v in json.loads(headers)),
                (OUTBOX_ID, f"{mine}/{number}".encode()),
            ],
        )
        for number, partition, stamp, key, value, headers in rows
    ]


_PLACE: FrameSchema = {"partition": pl.Int64(), "offset": pl.Int64(), "warehouse": pl.String()}
_WINDOWS: FrameSchema = {
    **_PLACE,
    "key": pl.Binary(),
    "kind": pl.String(),
    "window_size": pl.Int64(),
    "window_start": pl.Int64(),
    "id": pl.Int64(),
    "revision": pl.Int64(),
    "state": pl.String(),
    "window_end": pl.Int64(),
    **dict.fromkeys((*COUNTS, *MONEY), pl.Int64()),
}
_LATE: FrameSchema = {
    **_PLACE,
    "source_offset": pl.Int64(),
    "ts": pl.Int64(),
    "key": pl.Binary(),
    "body": pl.Binary(),
    **{name.replace(".", "_"): pl.String() for name in LATE_HEADERS},
}
_RISES: FrameSchema = {
    **_PLACE,
    "next_offset": pl.Int64(),
    "watermark": pl.Int64(),
    "waiting": pl.Boolean(),
}


class WindowTable:
    """``window_results``: a row per record of `sales.windows`. A record that cannot be decoded has a null ``kind``."""

    def __init__(self, engine: Engine, decoder: Decoder) -> None:
        self._engine = engine
        self._decoder = decoder
        create(engine, "window_results", _WINDOWS)

    def take(self, records: Iterable[ResultRecord]) -> None:
        """Append records."""
        rows = []
        for r in records:
            result = self._decoder.framed(r.value())
            window = () if result is None else _window(result)
            rows.append((*_place(r), r.key(), *(window or [None] * (len(_WINDOWS) - len(_PLACE) - 1))))
        insert(self._engine, "window_results", pl.DataFrame(rows, schema=_WINDOWS, orient="row"))


class LateTable:
    """``late_results``: a row per record of `sales.late`; ``body`` is the clean value behind its Confluent header."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        create(engine, "late_results", _LATE)

    def take(self, records: Iterable[ResultRecord]) -> None:
        """Append records."""
        rows = []
        for r in records:
            headers = dict(r.headers() or ())
            source = big_endian(headers.get(SOURCE_OFFSET))
            body = (r.value() or b"")[HEADER_BYTES:]
            reasons = [text(headers.get(name)) for name in LATE_HEADERS]
            rows.append((*_place(r), source, r.timestamp()[1] * 1000, r.key(), body, *reasons))
        insert(self._engine, "late_results", pl.DataFrame(rows, schema=_LATE, orient="row"))


class RiseTable:
    """``rises``: a row per record of `sales.watermarks`, of any warehouse; ``waiting``: it is still in the outbox."""

    def __init__(self, engine: Engine, decoder: Decoder) -> None:
        self._engine = engine
        self._decoder = decoder
        create(engine, "rises", _RISES)

    def take(self, records: Iterable[ResultRecord]) -> None:
        """Append records."""
        rows = []
        for r in records:
            rise = self._decoder.framed(r.value())
            if rise is not None:
                _, offset, owner = _place(r)
                row = (rise["partition"], offset, owner, rise["next_offset"], rise["watermark"], offset is None)
                rows.append(row)
        insert(self._engine, "rises", pl.DataFrame(rows, schema=_RISES, orient="row"))


def _place(record: ResultRecord) -> tuple[int, int | None, str | None]:
    owner = text(dict(record.headers() or ()).get(OUTBOX_ID))
    return record.partition(), record.offset(), None if owner is None else owner.partition("/")[0]


def _window(result: AvroRecord) -> Row:
    number = result["store_id"] if result["kind"] == "store" else result["product_id"]
    # Avro's decimal of scale 2: the unscaled number, big-endian two's complement.
    money = [int.from_bytes(result[m], "big", signed=True) for m in MONEY]
    size, start = span(result["window_size"]), result["window_start"]
    key = (result["kind"], size, start, number, result["revision"], result["state"])
    return (*key, result["window_end"], *(result[c] for c in COUNTS), *money)
