"""Dead letters as they stand on the ``.dlq`` topics, and the selection of them that a command asks for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from confluent_kafka import Message

from retail_stream import topics
from retail_stream.dead_letters import Header
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.kafka import reading
from retail_stream.kafka.headers import REPLAY_OF, header_list
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

Headers = Sequence[tuple[str, bytes | None]]
_CONNECT = "__connect.errors."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Origin:
    """The position of the rejected record on its raw topic."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True)
class Letter:
    """One dead letter. ``timestamp``: the original record's, milliseconds; ``headers``: its own and the added ones."""

    entity: Entity
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @classmethod
    def of(cls, entity: Entity, m: Message) -> "Letter":
        """``m``: a record of the entity's dead letter topic."""
        headers = header_list(m)
        return cls(entity, m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), headers)

    @property
    def at(self) -> datetime | None:
        """The record's timestamp; None unless it is a date of the years 1 to 9999."""
        try:
            return _EPOCH + self.timestamp * _MILLISECOND
        except OverflowError:
            return None

    @property
    def rules(self) -> tuple[str, ...]:
        """The broken rules; ``unknown`` if the header is missing."""
        return tuple(dict.fromkeys((self.text(Header.RULES) or "unknown").split(",")))

    @property
    def origin(self) -> Origin | None:
        """Where the record came from; None if the headers do not name a position on the entity's raw topic."""
        topic, numbers = self.text(Header.TOPIC), (self.text(Header.PARTITION), self.text(Header.OFFSET))
        if topic != topics.raw(self.entity) or not all(n and n.isascii() and n.isdigit() for n in numbers):
            return None
        partition, offset = (int(n or 0) for n in numbers)
        return Origin(topic, partition, offset) if partition < 2**31 and offset < 2**63 else None

    @property
    def replay_of(self) -> bytes | None:
        """The header ``replay.of``: the first original, if this record was a replay itself."""
        return self._named.get(REPLAY_OF)

    @property
    def original_headers(self) -> Headers:
        """The headers that the record had before it was rejected.

        The cleaner appends its headers: of several headers named ``rules``, the last is the cleaner's.
        """
        added: set[str] = set()
        own = []
        for name, value in reversed(self.headers):
            if name.startswith(_CONNECT) or (name in (Header.RULES, Header.RULES_VERSION) and name not in added):
                added.add(name)
            else:
                own.append((name, value))
        return own[::-1]

    def text(self, header: str) -> str | None:
        """A header as text; None if it is missing. Replacement characters stand for invalid UTF-8."""
        value = self._named.get(header)
        return None if value is None else value.decode(errors="replace")

    @cached_property
    def _named(self) -> Mapping[str, bytes | None]:
        """Headers by name; of a repeated name the last, which the cleaner appended."""
        return dict(self.headers)


@dataclass(frozen=True)
class Selection:
    """Selects dead letters by entity, broken rule and timestamp in [since, until). None selects any."""

    entity: Entity | None = None
    rule: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def parse(cls, entity: Entity | None, rule: str | None, since: str | None, until: str | None) -> "Selection":
        """The selection of these command-line options.

        Raises:
            SettingsError: a time is not valid, or ``since`` is not before ``until``.
        """
        first, after = parse_time("--since", since), parse_time("--until", until)
        if first is not None and after is not None and first >= after:
            raise SettingsError(f"--since={since!r} is not before --until={until!r}; give an earlier time.")
        return cls(entity, rule, first, after)

    def includes(self, letter: Letter) -> bool:
        """Whether a dead letter is selected."""
        return (
            (self.entity is None or letter.entity is self.entity)
            and (self.rule is None or self.rule in letter.rules)
            and (self.since is None or letter.timestamp >= _milliseconds(self.since))
            and (self.until is None or letter.timestamp < _milliseconds(self.until))
        )


def read(
    connections: Connections, selection: Selection, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Letter]:
    """The selected dead letters that the topics hold now; those that arrive during the call are left out.

    ``progress``: called now and then with the number of dead letters read, and of all.

    Raises:
        Unavailable: no broker answered for 30 s, or a transaction stays open; see
            :func:`retail_stream.kafka.reading.read`.
    """
    entities = tuple(Entity) if selection.entity is None else (selection.entity,)

    def ends_now() -> dict[TopicPartitionKey, int]:
        return end_offsets(connections, topic_partitions(connections, *map(topics.dlq, entities)))

    ends = wait_for(ends_now, COMMAND_PATIENCE_S)
    done, total = 0, sum(ends.values())
    for entity in entities:
        ranges = {place: range(end) for place, end in ends.items() if place[0] == topics.dlq(entity)}
        for batch in reading.read_patiently(connections, ranges, COMMAND_PATIENCE_S):
            for letter in (Letter.of(entity, message) for message in batch):
                if selection.includes(letter):
                    yield letter
            done += len(batch)
            progress(done, total)


def parse_time(option: str, text: str | None) -> datetime | None:
    """The time that an option gives; without a zone it is UTC.

    Raises:
        SettingsError: it is not an ISO 8601 time.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as e:
        raise SettingsError(
            f"{option}={text!r} is not a valid time; use ISO 8601, for example 2026-11-30T12:00:00Z."
        ) from e
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _milliseconds(time: datetime) -> float:
    # Times become timestamps and are compared as such: not every timestamp is a date.
    return (time - _EPOCH) / _MILLISECOND
