"""`verify --since`: the time that it is given, and the offsets where the records from then on begin.

The cut of a raw partition is the offset of its first record with that timestamp or a later one. All records before the
cut are older than the time; behind it, a record may be older, as a replay is. Brokers also find records of aborted
transactions; :func:`commands.verify.recent_load.move_cuts` moves the cuts behind those.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from confluent_kafka import Message

from commands.audit.records import decimal, text
from commands.audit.windows import span
from retail_stream import topics
from retail_stream.dead_letters import Header
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian, headers_by_name
from retail_stream.kafka.offsets import TopicPartitionKey, first_offsets, require_topics, topic_partitions
from retail_stream.kafka.reading import read_patiently
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

#: No good record's times are further ahead of its timestamp (microseconds): records before a cut end there.
AHEAD_US = 300_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BLOCK = 2_000


@dataclass(frozen=True)
class Cut:
    """Where the records since a time begin.

    ``since_ms``: the time, milliseconds since 1970-01-01 UTC. ``raw``: the cut of each raw partition. ``found``: for
    each clean and dead letter partition, its first record that is not older than the time. ``begins``: where to read
    from, so that no record of a raw record behind the cut is missed; not above ``raw`` and ``found``.
    """

    since_ms: int
    raw: Mapping[TopicPartitionKey, int]
    found: Mapping[TopicPartitionKey, int]
    begins: Mapping[TopicPartitionKey, int]

    @property
    def complete_us(self) -> int:
        """Microseconds since 1970-01-01 UTC from which on nothing depends on a record before the cut."""
        return self.since_ms * 1000 + AHEAD_US

    @property
    def shown(self) -> str:
        """The time for a person."""
        return (_EPOCH + self.since_ms * _MILLISECOND).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse(given: str, now: datetime) -> int:
    """The milliseconds since 1970-01-01 UTC that a time or a duration before ``now`` means; at least 0.

    Raises:
        SettingsError: it is neither, or lies after ``now``.
    """
    before = span(given.strip())
    if before is not None:
        return max((now - _EPOCH) // _MILLISECOND - before // 1000, 0)
    try:
        time = datetime.fromisoformat(given)
    except ValueError as e:
        raise SettingsError(
            f"--since={given!r} is not a valid time; use ISO 8601, for example 2026-11-30T12:00:00Z (UTC without a "
            "zone), or how long ago, for example 90s, 15m, 2h or 1d."
        ) from e
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    if time > now:
        raise SettingsError(f"--since={given!r} is in the future; give a time that has passed.")
    return max((time - _EPOCH) // _MILLISECOND, 0)


def cut(connections: Connections, since_ms: int) -> Cut:
    """Find the offsets of a time.

    Raises:
        Unavailable: no broker answered for 30 s, or a topic is missing.
    """

    def at(names: Iterable[str]) -> dict[TopicPartitionKey, int]:
        wanted = list(names)
        require_topics(connections, wanted)
        return first_offsets(connections, topic_partitions(connections, *wanted), since_ms)

    raw = wait_for(lambda: at(map(topics.raw, Entity)), COMMAND_PATIENCE_S)
    found = wait_for(lambda: at([*map(topics.clean, Entity), *map(topics.dlq, Entity)]), COMMAND_PATIENCE_S)
    return Cut(since_ms, raw, found, _begins(connections, raw, found))


def _begins(
    connections: Connections, raw: Mapping[TopicPartitionKey, int], found: Mapping[TopicPartitionKey, int]
) -> dict[TopicPartitionKey, int]:
    """Go back from ``found`` over records that are older than the time, and whose raw records are behind the cut.

    A partition is in the order of its raw records, so a block without such a record ends the search.
    """
    begins = dict(found)
    searched = {place for place, offset in begins.items() if offset > 0}
    while searched:
        blocks = {place: range(max(begins[place] - _BLOCK, 0), begins[place]) for place in searched}
        searched = set()
        for batch in read_patiently(connections, blocks, COMMAND_PATIENCE_S):
            for m in batch:
                topic, partition = str(m.topic()), int(m.partition() or 0)
                first = raw.get((topics.raw(Entity(topic.partition(".")[0])), partition), 0)
                source = source_of(m)
                if source is not None and source >= first:
                    searched.add((topic, partition))
        begins |= {place: blocks[place].start for place in searched}
        searched = {place for place in searched if begins[place] > 0}
    return begins


def source_of(message: Message) -> int | None:
    """The offset of the raw record that a clean record or a dead letter is of."""
    headers = headers_by_name(message)
    if str(message.topic()).endswith(".dlq"):
        return decimal(text(headers.get(Header.OFFSET)))
    return big_endian(headers.get(SOURCE_OFFSET))
