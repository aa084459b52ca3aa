"""Tables of the result topics and of the outbox's rows for them: ``window_results``, ``late_results`` and ``rises``.

Each record has ``warehouse`` (the id of the warehouse whose outbox it comes from; null where it names none),
``number`` (its id there; null where it names none) and ``offset`` (null for a row of the outbox, which is not published
yet). ``headers``: those that no result has, as bytes that can be compared.
"""

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from commands.audit.avro import HEADER_BYTES, Decoder, schema_number
from commands.audit.engine import Engine, create, insert
from commands.audit.layouts import Holds, holds
from commands.audit.records import FrameSchema, Header, Row, comparable, decimal, text
from commands.audit.windows import COUNTS, MONEY, span
from retail_stream.entities import Entity
from retail_stream.kafka.headers import RULES_VERSION, SOURCE_OFFSET, big_endian
from retail_stream.topics import Result

OUTBOX_ID = "outbox.id"
#: Headers of a late sale: the windows that it missed, by how many seconds, and the watermark at which it came.
LATE_HEADERS = ("late.windows", "late.by_s", "late.watermark")
_CLEAN_OFFSET = "clean.offset"
_OF_LATE = frozenset({OUTBOX_ID, SOURCE_OFFSET, RULES_VERSION, _CLEAN_OFFSET, *LATE_HEADERS})


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


_PLACE: FrameSchema = {
    "partition": pl.Int64(),
    "offset": pl.Int64(),
    "warehouse": pl.String(),
    "number": pl.Int64(),
    "headers": pl.Binary(),
}
_WINDOWS: FrameSchema = {
    **_PLACE,
    "key": pl.Binary(),
    "kind": pl.String(),
    "window_size": pl.Int64(),
    "window_start": pl.Int64(),
    "id": pl.String(),
    "revision": pl.Int64(),
    "state": pl.String(),
    "window_end": pl.Int64(),
    "updated_at": pl.Int64(),
    **dict.fromkeys((*COUNTS, *MONEY), pl.Int64()),
}
#: The fields of a record that a row needs, beside its key.
_FIELDS: FrameSchema = {
    **dict.fromkeys(("kind", "window_size", "state"), pl.String()),
    **dict.fromkeys(("window_start", "window_end", "updated_at", "revision", *COUNTS), pl.Int64()),
    **dict.fromkeys(MONEY, pl.Binary()),
}
#: The columns of a sale that a record may be for, one of them.
_KEYS: FrameSchema = {
    name: pl.String() if held is Holds.TEXT else pl.Int64()
    for name, held in holds(Entity.SALES).items()
    if held in (Holds.TEXT, Holds.OTHER)
}
_LATE: FrameSchema = {
    **_PLACE,
    "source_offset": pl.Int64(),
    "ts": pl.Int64(),
    "key": pl.Binary(),
    "body": pl.Binary(),
    **{name.replace(".", "_"): pl.String() for name in LATE_HEADERS},
    "rules_version": pl.String(),
    "clean_offset": pl.Int64(),
}
_RISES: FrameSchema = {
    **_PLACE,
    "ts": pl.Int64(),
    "key": pl.Binary(),
    "published": pl.Int64(),
    "next_offset": pl.Int64(),
    "watermark": pl.Int64(),
    "waiting": pl.Boolean(),
}


class WindowTable:
    """``window_results``: a row per record of `sales.windows`. A record that cannot be decoded has a null ``kind``.

    ``id``: as text. Measures that a record does not have are null.
    """

    def __init__(self, engine: Engine, decoder: Decoder) -> None:
        """``decoder``: of the topic's schema. Schemas with more fields are read as they are."""
        self._engine = engine
        self._decoder = decoder
        usual = set(decoder.fields)
        self._further = {
            n: Decoder(schema, {n: schema})
            for n, schema in decoder.schemas.items()
            if n in decoder.layouts.keys() - decoder.exact and usual <= {f["name"] for f in schema["fields"]}
        }
        create(engine, "window_results", _WINDOWS)

    def take(self, records: Iterable[ResultRecord]) -> None:
        """Append records."""
        parts: defaultdict[Decoder, list[ResultRecord]] = defaultdict(list)
        for r in records:
            parts[self._further.get(schema_number(r.value()) or 0, self._decoder)].append(r)
        for part in parts.items():
            self._take(*part)

    def _take(self, decoder: Decoder, taken: Sequence[ResultRecord]) -> None:
        places = pl.DataFrame([_place(r) for r in taken], schema=_PLACE, orient="row")
        values = [r.value() or b"" for r in taken]
        keys = {name: kind for name, kind in _KEYS.items() if name in decoder.fields}
        fields = {**_FIELDS, **keys}
        windows = decoder.table(list(map(schema_number, values)), [v[HEADER_BYTES:] for v in values], fields)
        texts = {name: pl.col(name).cast(pl.String) for name in keys}
        spans = {text: span(text) for text in windows["window_size"].drop_nulls().unique()}
        known = windows.with_columns(
            pl.Series("key", [r.key() for r in taken], dtype=pl.Binary()),
            pl.Series("window_size", [text and spans[text] for text in windows["window_size"]], dtype=pl.Int64()),
            pl.when(pl.col("kind") == "store")
            .then(texts["store_id"])
            .when(pl.col("kind") == "product")
            .then(texts["product_id"])
            .otherwise(pl.coalesce(texts.values()))
            .alias("id"),
            *(pl.Series(m, list(map(_cents, windows[m])), dtype=pl.Int64()) for m in MONEY),
        )
        insert(self._engine, "window_results", places.hstack(known.select(list(_WINDOWS)[len(_PLACE) :])))


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
            reasons = [text(headers.get(name)) for name in (*LATE_HEADERS, RULES_VERSION)]
            clean = decimal(text(headers.get(_CLEAN_OFFSET)))
            rows.append((*_place(r, _OF_LATE), source, r.timestamp()[1] * 1000, r.key(), body, *reasons, clean))
        insert(self._engine, "late_results", pl.DataFrame(rows, schema=_LATE, orient="row"))


class RiseTable:
    """``rises``: a row per record of `sales.watermarks`, of any warehouse; ``waiting``: it is still in the outbox.

    A record that cannot be decoded has a null ``partition``.

    ``partition``: whose watermark rises. ``published``: the record's own; -1 in the outbox where it names none.
    """

    def __init__(self, engine: Engine, decoder: Decoder) -> None:
        self._engine = engine
        self._decoder = decoder
        create(engine, "rises", _RISES)

    def take(self, records: Iterable[ResultRecord]) -> None:
        """Append records."""
        rows = []
        for r in records:
            rise = self._decoder.framed(r.value()) or dict.fromkeys(("partition", "next_offset", "watermark"))
            published, offset, *origin = _place(r)
            where = (rise["partition"], offset, *origin, r.timestamp()[1] * 1000, r.key(), published)
            rows.append((*where, rise["next_offset"], rise["watermark"], offset is None))
        insert(self._engine, "rises", pl.DataFrame(rows, schema=_RISES, orient="row"))


def _place(record: ResultRecord, known: Container[str] = (OUTBOX_ID,)) -> Row:
    headers = record.headers() or ()
    owner = text(dict(headers).get(OUTBOX_ID))
    warehouse, _, number = (None, "", None) if owner is None else owner.partition("/")
    others = comparable([(n, v) for n, v in headers if n not in known])
    return record.partition(), record.offset(), warehouse, decimal(number), others


def _cents(money: bytes | None) -> int | None:
    """Avro's decimal of scale 2: the unscaled number, big-endian two's complement."""
    return None if money is None else int.from_bytes(money, "big", signed=True)
