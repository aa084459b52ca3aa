"""Claiming partitions of `sales.clean`, and what their owner holds in memory of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from retail_stream import kafka, positions
from retail_stream.positions import Position
from retail_stream.registry import Writers
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result
from retail_stream.wire import HEADER_BYTES, schema_id
from services.aggregator import duplicates, outbox, warehouse, watermark
from services.aggregator.duplicates import Chunk, Held
from services.aggregator.watermark import Rise


@dataclass(frozen=True)
class Owned:
    """A partition of ours. ``replayed``: rises that an earlier warehouse recorded for offsets still to come."""

    position: Position
    held: Held
    replayed: tuple[Rise, ...]


def recorded_rises(connections: Connections, writers: Writers) -> list[Rise]:
    """Every rise on `sales.watermarks`, read to its end. Rare: only an empty warehouse asks.

    Raises:
        Unavailable: no broker answers.
    """
    rises = []
    for message in kafka.read_to_end(connections, Result.WATERMARKS):
        value = message.value() or b""
        number = schema_id(value)
        record = writers.get([number])[number].record(value[HEADER_BYTES:])  # type: ignore[index]
        assert record is not None, f"{message.topic()}/{message.partition()}@{message.offset()}"
        rises.append(Rise(record["partition"], record["next_offset"], record["watermark"]))
    return rises


def is_fresh(connection: Connection, topic: str, partitions: Iterable[int]) -> bool:
    """Whether one of the partitions has not been read from at all by this warehouse."""
    read = connection.execute(
        text(
            "SELECT count(*) FROM consumer_positions "
            "WHERE consumer_group = :group AND topic = :topic AND partition = ANY(:partitions) AND next_offset > 0"
        ),
        {"group": Group.AGGREGATOR.value, "topic": topic, "partitions": list(partitions)},
    ).scalar_one()
    return read < len(list(partitions))


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
        replayed = _keep_rises(connection, p, position.next_offset, rises)
        owned[p] = Owned(position, _held(connection, p), replayed)
    outbox.put(connection, encoder.rises(raised, marks.now))
    return owned


def forget_rises(connection: Connection, partition: int, end: int) -> None:
    """Drop what was replayed up to and with the rise at ``end``."""
    connection.execute(
        text("DELETE FROM replayed_rises WHERE partition = :p AND next_offset <= :end"), {"p": partition, "end": end}
    )


def _keep_rises(connection: Connection, partition: int, start: int, rises: Iterable[Rise]) -> tuple[Rise, ...]:
    for r in rises:
        if r.partition == partition and r.next_offset >= start:
            connection.execute(
                text("INSERT INTO replayed_rises VALUES (:p, :next_offset, :mark) ON CONFLICT DO NOTHING"),
                {"p": partition, "next_offset": r.next_offset, "mark": warehouse.instant(r.watermark)},
            )
    rows = connection.execute(
        text("SELECT next_offset, watermark FROM replayed_rises WHERE partition = :p ORDER BY next_offset"),
        {"p": partition},
    )
    return tuple(Rise(partition, o, warehouse.micros(w)) for o, w in rows)  # type: ignore[arg-type]


def _held(connection: Connection, partition: int) -> Held:
    rows = connection.execute(
        text("SELECT expires, identities FROM sale_identities WHERE partition = :p ORDER BY id"), {"p": partition}
    ).all()
    by_hour: dict[object, list] = defaultdict(list)
    for expires, payload in rows:
        by_hour[expires.replace(minute=0, second=0, microsecond=0)].append((expires, payload))
    chunks = []
    for group in by_hour.values():
        identities = duplicates.from_bytes(payload for _, payload in group)
        ids = identities["transaction_id"]
        latest = warehouse.micros(max(expires for expires, _ in group))
        chunks.append(Chunk(identities, ids.min(), ids.max(), latest))  # type: ignore[arg-type]
    return tuple(chunks)
