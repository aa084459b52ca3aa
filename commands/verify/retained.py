"""What was deleted by age or on request, so that its absence is not a difference.

====================================  =========================================================================
deleted                               what `verify` does
====================================  =========================================================================
raw or clean records                  compares what was published since, as with ``--since``; not of clean topics that
                                      were derived again from whole raw ones
dead letters of a topic with a limit  expects none of a record before the first letter that is left
months of facts                       expects no fact of them (table ``archived``)
windows                               expects no row and no result of them (table ``kept_since``)
versions of an id (``forget``)        expects none that begin before its forgetting (table ``forgotten``)
====================================  =========================================================================
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl
from confluent_kafka import KafkaException, Message
from confluent_kafka.admin import ConfigResource, ResourceType

from commands.audit import engine as duck
from commands.audit.engine import Engine
from commands.verify import since
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, first_offsets, topic_partitions
from retail_stream.kafka.reading import read
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

#: Among so many offsets at the start of a log is a record; transactions' markers have offsets, too.
_FIRST = 1_000
_KEPT = [f(e) for e in Entity for f in (topics.raw, topics.clean)]


@dataclass(frozen=True)
class Kept:
    """What the raw and clean logs have.

    ``since_ms``: milliseconds since 1970-01-01 UTC since when all records are there; None if none was deleted.
    ``begins``: then, where clean logs begin that were derived again (`rebuild --from-raw`), and so have all.
    """

    since_ms: int | None
    begins: Mapping[TopicPartitionKey, int]


def kept(connections: Connections) -> Kept:
    """Look at where the logs begin.

    Raises:
        Unavailable: a broker does not answer.
    """
    places = topic_partitions(connections, *_KEPT)
    firsts = {place: offset for place, offset in first_offsets(connections, places).items() if offset > 0}
    if not firsts:
        return Kept(None, {})
    kept_ms = _kept_ms(connections, {topic for topic, _ in firsts})
    cut = [place for place in firsts if kept_ms[place[0]] > 0 or not _is_derived_again(connections, place, firsts)]
    if not cut:
        return Kept(None, firsts)
    now = time.time_ns() // 1_000_000
    times = []
    for place in cut:
        first = _first_record(connections, place)
        # Deleted records are hardly newer than those behind them, and never newer than the topic's limit allows.
        oldest = first.timestamp()[1] + since.AHEAD_US // 1000 if first else 0
        least = now - kept_ms[place[0]] if kept_ms[place[0]] > 0 else 0
        times.append(min(max(oldest, least) or now, now))
    return Kept(max(times), {})


def _is_derived_again(
    connections: Connections, place: TopicPartitionKey, firsts: Mapping[TopicPartitionKey, int]
) -> bool:
    """Whether a log begins with what became of its whole raw log's first record; so it does where nothing came yet.

    ``firsts``: where the logs begin that do not begin at 0.
    """
    topic, partition = place
    entity = Entity(topic.partition(".")[0])
    raw = (topics.raw(entity), partition)
    if topic == raw[0] or raw in firsts:
        return False
    heads = [_first_record(connections, (layer(entity), partition)) for layer in (topics.clean, topics.dlq)]
    sources = [source for head in heads if head is not None and (source := since.source_of(head)) is not None]
    first = _first_record(connections, raw)
    return not sources or (first is not None and min(sources) == first.offset())


def _first_record(connections: Connections, place: TopicPartitionKey) -> Message | None:
    first, end = first_offsets(connections, [place])[place], end_offsets(connections, [place])[place]
    return next(
        (m for batch in read(connections, {place: range(first, min(first + _FIRST, end))}) for m in batch), None
    )


def _kept_ms(connections: Connections, names: Iterable[str]) -> dict[str, int]:
    """`retention.ms` of topics, -1 for no limit.

    Raises:
        Unavailable: a broker does not answer.
    """
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    try:
        # Kept by name: a client that is gone answers nothing.
        client = clients.admin(connections)
        found = client.describe_configs(asked, request_timeout=clients.ANSWER_S)
        return {r.name: int(f.result()["retention.ms"].value or -1) for r, f in found.items()}
    except KafkaException as e:
        raise clients.unavailable(connections, e) from e


def require_kept(connections: Connections, begins: Mapping[TopicPartitionKey, int]) -> None:
    """Check, after reading, that raw and clean logs still begin where they were read from, or before.

    ``begins``: 0 of those that are absent.

    Raises:
        Unavailable: a broker did not answer for 30 s, or records were deleted meanwhile.
    """
    places = wait_for(lambda: topic_partitions(connections, *_KEPT), COMMAND_PATIENCE_S)
    for place, first in wait_for(lambda: first_offsets(connections, places), COMMAND_PATIENCE_S).items():
        if first > begins.get(place, 0):
            raise Unavailable(
                f"Kafka deleted records of {place[0]}/{place[1]} up to offset {first} while they were read; run the "
                "command again."
            )


def letters(connections: Connections, engine: Engine, begins: Mapping[TopicPartitionKey, int]) -> None:
    """Make ``letters_from`` (topic, partition, first): where letters were deleted, the raw offset of the first left.

    Only of topics with a `retention.ms`: in others each letter is expected. And ``letters_begin`` (topic, partition,
    first): the offset at which each log of letters begins.
    Reads ``dead_<entity>``, which was loaded from ``begins`` on (0 of those that are absent). Where no letter is left,
    ``first`` is above all offsets.

    Raises:
        Unavailable: a broker did not answer for 30 s.
    """
    places = wait_for(lambda: topic_partitions(connections, *map(topics.dlq, Entity)), COMMAND_PATIENCE_S)
    firsts = wait_for(lambda: first_offsets(connections, places), COMMAND_PATIENCE_S)
    kept_ms = wait_for(lambda: _kept_ms(connections, {topic for topic, _ in places}), COMMAND_PATIENCE_S)
    rows = []
    for (topic, partition), offset in firsts.items():
        if kept_ms[topic] > 0 and offset > 0 and offset >= begins.get((topic, partition), 0):
            table = f"dead_{topic.removesuffix('.dlq')}"
            left = engine.execute(
                f'SELECT arg_min(source_offset, "offset") FROM {table} WHERE partition = ?', [partition]
            ).fetchall()
            rows.append((topic, partition, 2**62 if left[0][0] is None else left[0][0]))
    schema: dict[str, pl.DataType] = {"topic": pl.String(), "partition": pl.Int64(), "first": pl.Int64()}
    logs = [(*place, offset) for place, offset in firsts.items()]
    for table, found in (("letters_from", rows), ("letters_begin", logs)):
        duck.create(engine, table, schema)
        duck.insert(engine, table, pl.DataFrame(found, schema=schema, orient="row"))


def drop_windows(engine: Engine, *tables: str) -> None:
    """Delete the windows of tables that begin before the warehouse keeps any."""
    for table in tables:
        engine.execute(f"DELETE FROM {table} WHERE window_start < (SELECT max(since) FROM kept_since)")
