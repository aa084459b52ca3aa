"""The result topics as tables, with what still waits in the outbox: ``told_late``, ``told_windows`` and ``rises``.

Each record has ``warehouse`` (whose outbox it comes from; null: nobody's) and ``offset`` (null: not published yet).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from commands.audit.avro import HEADER_BYTES, Decoder, schema_number
from commands.audit.engine import Engine, create, insert
from commands.audit.records import Header, Schema, text
from commands.verify.windows import COUNTS, MONEY, span
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian
from retail_stream.topics import Result

OUTBOX_ID = "outbox.id"
#: Headers of a late sale: which windows it missed, by how many seconds each, at which watermark.
WHY = ("late.windows", "late.by_s", "late.watermark")


class Told(Protocol):
    """What a record of a result topic is asked for; a Kafka message is one."""

    def partition(self) -> int: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Sequence[Header] | None: ...


@dataclass(frozen=True)
class Waiting:
    """A row of the outbox as the record that it will be."""

    place: int | None
    stamp_ms: int
    its_key: bytes | None
    its_value: bytes | None
    its_headers: Sequence[Header]

    def partition(self) -> int:
        return -1 if self.place is None else self.place

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


def waiting(engine: Engine, topic: Result) -> list[Waiting]:
    """The rows of the loaded ``outbox`` that are for a topic."""
    mine = engine.execute("SELECT id FROM warehouse_id").fetchall()[0][0]
    rows = engine.execute(
        "SELECT id, partition, timestamp_ms, key, value, headers FROM outbox WHERE topic = ? ORDER BY id", [topic.value]
    ).fetchall()
    return [
        Waiting(
            place,
            stamp,
            key,
            value,
            [
                *((n, None if v is None else bytes.fromhex(v)) for n, v in json.loads(headers)),
                (OUTBOX_ID, f"{mine}/{number}".encode()),
            ],
        )
        for number, place, stamp, key, value, headers in rows
    ]


_PLACE: Schema = {"partition": pl.Int64(), "offset": pl.Int64(), "warehouse": pl.String()}
_WINDOWS: Schema = {
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
_LATE: Schema = {
    **_PLACE,
    "source_offset": pl.Int64(),
    "ts": pl.Int64(),
    "key": pl.Binary(),
    "body": pl.Binary(),
    **{name.replace(".", "_"): pl.String() for name in WHY},
}
_RISES: Schema = {
    **_PLACE,
    "next_offset": pl.Int64(),
    "watermark": pl.Int64(),
    "waiting": pl.Boolean(),
}


class WindowTable:
    """``told_windows``: a row per record of `sales.windows`; one that cannot be decoded has a null ``kind``."""

    def __init__(self, engine: Engine, decoder: Decoder) -> None:
        self._engine = engine
        self._decoder = decoder
        create(engine, "told_windows", _WINDOWS)

    def take(self, records: Iterable[Told]) -> None:
        """Append records."""
        rows = []
        for r in records:
            told = _decoded(self._decoder, r.value())
            window = () if told is None else _window(told)
            rows.append((*_place(r), r.key(), *(window or [None] * (len(_WINDOWS) - len(_PLACE) - 1))))
        insert(self._engine, "told_windows", pl.DataFrame(rows, schema=_WINDOWS, orient="row"))


class LateTable:
    """``told_late``: a row per record of `sales.late`; the body is the clean value behind its header."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        create(engine, "told_late", _LATE)

    def take(self, records: Iterable[Told]) -> None:
        """Append records."""
        rows = []
        for r in records:
            headers = dict(r.headers() or ())
            source = big_endian(headers.get(SOURCE_OFFSET))
            body = (r.value() or b"")[HEADER_BYTES:]
            why = [text(headers.get(name)) for name in WHY]
            rows.append((*_place(r), source, r.timestamp()[1] * 1000, r.key(), body, *why))
        insert(self._engine, "told_late", pl.DataFrame(rows, schema=_LATE, orient="row"))


class RiseTable:
    """``rises``: what was recorded on `sales.watermarks`, by whichever warehouse; ``waiting``: in the outbox."""

    def __init__(self, engine: Engine, decoder: Decoder) -> None:
        self._engine = engine
        self._decoder = decoder
        create(engine, "rises", _RISES)

    def take(self, records: Iterable[Told]) -> None:
        """Append records."""
        rows = []
        for r in records:
            told = _decoded(self._decoder, r.value())
            if told is not None:
                _, offset, owner = _place(r)
                rise = told["next_offset"], told["watermark"]
                rows.append((told["partition"], offset, owner, *rise, offset is None))
        insert(self._engine, "rises", pl.DataFrame(rows, schema=_RISES, orient="row"))


def _decoded(decoder: Decoder, value: bytes | None) -> dict | None:
    number = schema_number(value)
    return None if value is None or number is None else decoder.record(number, value[HEADER_BYTES:])


def _place(record: Told) -> tuple[int, int | None, str | None]:
    owner = text(dict(record.headers() or ()).get(OUTBOX_ID))
    return record.partition(), record.offset(), None if owner is None else owner.partition("/")[0]


def _window(told: dict) -> tuple:
    number = told["store_id"] if told["kind"] == "store" else told["product_id"]
    # Avro's decimal of scale 2: the unscaled number, big-endian two's complement.
    money = [int.from_bytes(told[m], "big", signed=True) for m in MONEY]
    key = (told["kind"], span(told["window_size"]), told["window_start"], number, told["revision"], told["state"])
    return (*key, told["window_end"], *(told[c] for c in COUNTS), *money)
