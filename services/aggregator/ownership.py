"""Claiming partitions of `sales.clean`, and the state that an owner keeps of each in memory."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, text

from retail_stream.avro.decode import HEADER_BYTES, schema_id
from retail_stream.avro.registry import SubjectSchemas
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result
from retail_stream.warehouse import positions, postgres
from retail_stream.warehouse.positions import Position
from services.aggregator import identities, outbox, warehouse, watermark
from services.aggregator.duplicates import Held
from services.aggregator.watermark import Rise

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class OwnedPartition:
    """A partition of ours.

    ``held``: the identities of sales that count once. ``recorded_rises``: rises that an earlier warehouse recorded for
    offsets still to come, by offset.
    """

    position: Position
    held: Held
    recorded_rises: tuple[Rise, ...]

    @property
    def next_offset(self) -> int:
        """The first offset that is not in the results."""
        return self.position.next_offset

    def rises_up_to(self, end: int) -> int:
        """The number of recorded rises up to the offset ``end``, inclusive: the first ones."""
        return bisect_right(self.recorded_rises, end, key=lambda rise: rise.next_offset)


def read_recorded_rises(connections: Connections, writers: SubjectSchemas) -> list[Rise]:
    """Every rise on `sales.watermarks`, read to its end. Rare: only the first claim of an empty warehouse reads it.

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
            where = f"{message.topic()}/{message.partition()}@{message.offset()}"
            _log.warning("not a rise of a watermark, skipped", record=where)
            continue
        rises.append(Rise(record["partition"], record["next_offset"], record["watermark"]))
    return rises


def is_fresh(connection: Connection, topic: str) -> bool:
    """Whether this warehouse has not read any record yet.

    The first worker to claim partitions of a fresh warehouse stores the recorded rises of all partitions, so later
    claims never re-read `sales.watermarks`.
    """
    answer = connection.execute(
        text(
            "SELECT NOT EXISTS (SELECT FROM consumer_positions "
            "WHERE consumer_group = :group AND topic = :topic AND next_offset > 0)"
        ),
        {"group": Group.AGGREGATOR.value, "topic": topic},
    )
    return bool(answer.scalar_one())


def ensure_rows(connection: Connection, topic: str, partitions: Iterable[int]) -> None:
    """Insert a watermark row for each partition that has none: a partition without a row holds nothing back."""
    for partition in sorted(partitions):
        connection.execute(
            text("INSERT INTO partition_watermarks (topic, partition) VALUES (:topic, :p) ON CONFLICT DO NOTHING"),
            {"topic": topic, "p": partition},
        )


def claim(
    connection: Connection, topic: str, partitions: Iterable[int], rises: Iterable[Rise], encoder: outbox.Encoder
) -> Mapping[int, OwnedPartition]:
    """Become the owner of partitions: fence the owner before, end their idleness, read what is held of them.

    ``rises``: of :func:`read_recorded_rises`, for a fresh warehouse; stored until their offsets are passed.
    A partition whose watermark is behind the stream's is raised to it.
    """
    before = warehouse.lock(connection, topic)
    _store_rises(connection, rises)
    raised: list[Rise] = []
    owned: dict[int, OwnedPartition] = {}
    for p in sorted(partitions):
        position = positions.claim(connection, Group.AGGREGATOR, topic, p)
        mark = watermark.later(before.watermarks[p], before.stream.watermark)
        if mark is not None and mark != before.watermarks[p]:
            raised.append(Rise(p, position.next_offset, mark))
        connection.execute(
            text(
                "UPDATE partition_watermarks SET epoch = :epoch, watermark = :mark, idle = false, idle_until = NULL "
                "WHERE topic = :topic AND partition = :p"
            ),
            {"epoch": position.epoch, "mark": warehouse.instant(mark), "topic": topic, "p": p},
        )
        owned[p] = OwnedPartition(position, identities.held(connection, p), _stored_rises(connection, p))
    outbox.put(connection, encoder.rises(raised, before.now))
    return owned


def forget_rises(connection: Connection, partition: int, end: int) -> None:
    """Delete the recorded rises of a partition up to the offset ``end``, inclusive: they are applied."""
    connection.execute(
        text("DELETE FROM replayed_rises WHERE partition = :p AND next_offset <= :end"), {"p": partition, "end": end}
    )


def _store_rises(connection: Connection, rises: Iterable[Rise]) -> None:
    """Store rises of all partitions. One whose offset is passed already was applied there and changes nothing."""
    rows = [(r.partition, r.next_offset, warehouse.instant(r.watermark)) for r in rises]
    if rows:
        # One statement: the lock is held meanwhile, and a month of quiet traffic has 100,000 rises.
        insert = """
            INSERT INTO replayed_rises SELECT * FROM unnest(%s::integer[], %s::bigint[], %s::timestamptz[])
            ON CONFLICT DO NOTHING
        """
        postgres.cursor(connection).execute(insert, [list(column) for column in zip(*rows, strict=True)])


def _stored_rises(connection: Connection, partition: int) -> tuple[Rise, ...]:
    rows = connection.execute(
        text("SELECT next_offset, watermark FROM replayed_rises WHERE partition = :p ORDER BY next_offset"),
        {"p": partition},
    )
    return tuple(Rise(partition, o, warehouse.micros(w)) for o, w in rows)  # type: ignore[arg-type]
