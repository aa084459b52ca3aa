"""Claiming partitions of `sales.clean`, and what their owner holds in memory of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, text

from retail_stream.avro.decode import HEADER_BYTES, schema_id
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result
from retail_stream.warehouse import positions
from retail_stream.warehouse.positions import Position
from services.aggregator import duplicates, outbox, warehouse, watermark
from services.aggregator.duplicates import Held
from services.aggregator.watermark import Rise

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Owned:
    """A partition of ours. ``replayed``: rises that an earlier warehouse recorded for offsets still to come."""

    position: Position
    held: Held
    replayed: tuple[Rise, ...]


def recorded_rises(connections: Connections, writers: SubjectSchemas) -> list[Rise]:
    """Every rise on `sales.watermarks`, read to its end. Rare: only an empty warehouse asks.

    Raises:
        Unavailable: no broker answers.
    """
    rises = []
    for message in read_to_end(connections, Result.WATERMARKS):
        value = message.value() or b""
        number = schema_id(value)
        writer = writers.get([number]).get(number) if number is not None else None
        record = writer.record(value[HEADER_BYTES:]) if writer is not None else None
        if record is None:
            place = f"{message.topic()}/{message.partition()}@{message.offset()}"
            _log.warning("not ours, passed over", record=place)
            continue
        rises.append(Rise(record["partition"], record["next_offset"], record["watermark"]))
    return rises


def is_fresh(connection: Connection, topic: str) -> bool:
    """Whether this warehouse has read nothing at all yet.

    Whoever claims partitions of such a one keeps the recorded rises of all partitions, so that nobody has to look
    again: neither the owner of the others, nor the one of a partition that never gets a record.
    """
    return connection.execute(
        text(
            "SELECT NOT EXISTS (SELECT FROM consumer_positions "
            "WHERE consumer_group = :group AND topic = :topic AND next_offset > 0)"
        ),
        {"group": Group.AGGREGATOR.value, "topic": topic},
    ).scalar_one()


def ensure_rows(connection: Connection, topic: str, partitions: Iterable[int]) -> None:
    """A watermark row for every partition of the topic: one without a row would hold nothing back."""
    for partition in sorted(partitions):
        connection.execute(
            text("INSERT INTO partition_watermarks (topic, partition) VALUES (:topic, :p) ON CONFLICT DO NOTHING"),
            {"topic": topic, "p": partition},
        )


def claim(
    connection: Connection, topic: str, partitions: Iterable[int], rises: Iterable[Rise], encoder: outbox.Encoder
) -> Mapping[int, Owned]:
    """Become the owner of partitions: fences whoever was it, ends their idleness, loads what is held of them.

    ``rises``: what :func:`recorded_rises` found, for a fresh warehouse; kept until their offsets are passed.
    A partition that slept while the stream went on wakes with this, and is raised to it.
    """
    marks = warehouse.lock(connection, topic)
    _keep_rises(connection, rises)
    raised: list[Rise] = []
    owned: dict[int, Owned] = {}
    for p in sorted(partitions):
        position = positions.claim(connection, Group.AGGREGATOR, topic, p)
        mark = watermark.later(marks.watermarks[p], marks.stream.watermark)
        if mark is not None and mark != marks.watermarks[p]:
            raised.append(Rise(p, position.next_offset, mark))
        connection.execute(
            text(
                "UPDATE partition_watermarks SET epoch = :epoch, watermark = :mark, idle = false, idle_until = NULL "
                "WHERE topic = :topic AND partition = :p"
            ),
            {"epoch": position.epoch, "mark": warehouse.instant(mark), "topic": topic, "p": p},
        )
        owned[p] = Owned(position, _held(connection, p), _replayed(connection, p))
    outbox.put(connection, encoder.rises(raised, marks.now))
    return owned


def forget_rises(connection: Connection, partition: int, end: int) -> None:
    """Drop what was replayed up to and with the rise at ``end``."""
    connection.execute(
        text("DELETE FROM replayed_rises WHERE partition = :p AND next_offset <= :end"), {"p": partition, "end": end}
    )


def _keep_rises(connection: Connection, rises: Iterable[Rise]) -> None:
    """Of all partitions. One that its partition has passed meanwhile was applied there, and changes nothing."""
    rows = [{"p": r.partition, "next_offset": r.next_offset, "mark": warehouse.instant(r.watermark)} for r in rises]
    if rows:
        insert = text("INSERT INTO replayed_rises VALUES (:p, :next_offset, :mark) ON CONFLICT DO NOTHING")
        connection.execute(insert, rows)


def _replayed(connection: Connection, partition: int) -> tuple[Rise, ...]:
    rows = connection.execute(
        text("SELECT next_offset, watermark FROM replayed_rises WHERE partition = :p ORDER BY next_offset"),
        {"p": partition},
    )
    return tuple(Rise(partition, o, warehouse.micros(w)) for o, w in rows)  # type: ignore[arg-type]


def _held(connection: Connection, partition: int) -> Held:
    rows = connection.execute(
        text("SELECT expires, identities FROM sale_identities WHERE partition = :p ORDER BY id"), {"p": partition}
    )
    return duplicates.load((warehouse.micros(expires), payload) for expires, payload in rows)  # type: ignore[misc]
