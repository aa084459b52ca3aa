"""Dead letters as they lie on the ``.dlq`` topics, and which of them somebody asks for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from confluent_kafka import Message

from retail_stream import topics
from retail_stream.dead_letters import Header
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.kafka.headers import REPLAY_OF, header_list
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections

Headers = Sequence[tuple[str, bytes | None]]
_CONNECT = "__connect.errors."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TELL_EVERY = 1_000


@dataclass(frozen=True)
class Origin:
    """Where a record was when it was rejected."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True)
class Letter:
    """One dead letter. ``timestamp``: the original record's, milliseconds; ``headers``: all of them."""

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
        """The record's timestamp; None where it is no date of the years 1 to 9999."""
        try:
            return _EPOCH + self.timestamp * _MILLISECOND
        except OverflowError:
            return None

    @property
    def rules(self) -> tuple[str, ...]:
        """The broken rules; ``unknown`` where the header is missing."""
        return tuple(dict.fromkeys((self.text(Header.RULES) or "unknown").split(",")))

    @property
    def origin(self) -> Origin | None:
        """Where it came from, or None where the headers do not name a place on the entity's raw topic."""
        topic, numbers = self.text(Header.TOPIC), (self.text(Header.PARTITION), self.text(Header.OFFSET))
        if topic != topics.raw(self.entity) or not all(n and n.isascii() and n.isdigit() for n in numbers):
            return None
        partition, offset = (int(n or 0) for n in numbers)
        return Origin(topic, partition, offset) if partition < 2**31 and offset < 2**63 else None

    @property
    def replay_of(self) -> bytes | None:
        """The first original, where this record was a replay itself."""
        return self._named.get(REPLAY_OF)

    @property
    def own_headers(self) -> Headers:
        """Those that the record had before it was rejected.

        What a dead letter adds it adds behind them: of several headers with the name ``rules`` the last is not theirs.
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
        """A header as text; None where it is missing, damaged text with replacement characters."""
        value = self._named.get(header)
        return None if value is None else value.decode(errors="replace")

    @cached_property
    def _named(self) -> Mapping[str, bytes | None]:
        """Headers by name; of a repeated name the last, which is the dead letter's."""
        return dict(self.headers)


@dataclass(frozen=True)
class Selection:
    """Which letters: of an entity, that broke a rule, whose timestamp is in [since, until). None = any."""

    entity: Entity | None = None
    rule: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def asked(cls, entity: Entity | None, rule: str | None, since: str | None, until: str | None) -> "Selection":
        """Of what a person typed.

        Raises:
            SettingsError: a time is none, or nothing can be between the two.
        """
        first, after = moment("--since", since), moment("--until", until)
        if first is not None and after is not None and first >= after:
            raise SettingsError(f"--since={since!r} is not before --until={until!r}: allowed is an earlier time.")
        return cls(entity, rule, first, after)

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        return (
            (self.entity is None or letter.entity is self.entity)
            and (self.rule is None or self.rule in letter.rules)
            and (self.since is None or letter.timestamp >= _milliseconds(self.since))
            and (self.until is None or letter.timestamp < _milliseconds(self.until))
        )


def read(
    connections: Connections, selection: Selection, told: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Letter]:
    """The selected letters that are there now; those that come while this reads are left out.

    ``told``: hears now and then how many letters were looked at, of how many.

    Raises:
        Unavailable: no broker answers.
    """
    asked = tuple(Entity) if selection.entity is None else (selection.entity,)
    ends = end_offsets(connections, topic_partitions(connections, *map(topics.dlq, asked)))
    looked_at, total = 0, sum(ends.values())
    for entity in asked:
        topic = topics.dlq(entity)
        for message in read_to_end(connections, topic):
            looked_at += 1
            if looked_at % _TELL_EVERY == 0:
                told(looked_at, total)
            if message.offset() < ends.get((topic, message.partition()), 0):
                letter = Letter.of(entity, message)
                if selection.takes(letter):
                    yield letter


def moment(option: str, text: str | None) -> datetime | None:
    """A time that a person typed; without a zone it is UTC.

    Raises:
        SettingsError: it is no ISO 8601 time.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as e:
        raise SettingsError(
            f"{option}={text!r} is no time: allowed is ISO 8601, such as 2026-11-23T13:00 or 2026-11-23T13:00:00+01:00."
        ) from e
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _milliseconds(time: datetime) -> float:
    # Not the other way round: not every timestamp is a date.
    return (time - _EPOCH) / _MILLISECOND
