"""A chunk of Kafka messages as parallel columns, each read in one sweep."""

import struct
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from confluent_kafka import Message

from retail_stream.entities import Entity
from retail_stream.kafka import SEQUENCE_TIME, SOURCE_OFFSET, big_endian
from retail_stream.wire import HEADER_BYTES, schema_id
from services.cleaner.clean import Raw

Headers = list[tuple[str, bytes | None]]

_as_big_endian = struct.Struct(">q").pack


@dataclass(frozen=True)
class Records:
    """Records of one partition, in order; ``timestamps`` in milliseconds, ``headers`` None where there are none."""

    topic: str
    partition: int
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    timestamps: Sequence[int]
    offsets: Sequence[int]
    headers: Sequence[Headers | None]
    #: rows whose headers the client cannot read: a name is no UTF-8
    unreadable: Set[int] = frozenset()

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "Records":
        """``messages``: at least one, all of one partition."""
        headers, unreadable = _headers(messages)
        return cls(
            topic=str(messages[0].topic()),
            partition=int(messages[0].partition()),
            values=list(map(Message.value, messages)),
            keys=list(map(Message.key, messages)),
            timestamps=[time for _, time in map(Message.timestamp, messages)],
            offsets=list(map(Message.offset, messages)),
            headers=headers,
            unreadable=unreadable,
        )

    def __len__(self) -> int:
        return len(self.values)

    def schema_ids(self) -> set[int]:
        """Of the values that have a Confluent header."""
        return {i for head in {v and v[:HEADER_BYTES] for v in self.values} if (i := schema_id(head)) is not None}

    def raw(self, entity: Entity) -> Raw:
        """What the rules need of them."""
        sequence_times = {
            row: big_endian(dict(headers)[SEQUENCE_TIME])
            for row, (value, headers) in enumerate(zip(self.values, self.headers, strict=True))
            if value is None and headers and SEQUENCE_TIME in dict(headers)
        }
        return Raw(entity, self.values, self.keys, self.timestamps, sequence_times, self.unreadable)

    def with_source(self) -> Iterator[Headers]:
        """Each record's headers and ``source.offset``."""
        # Not a list: ten thousand of these alive at once would keep the garbage collector busy for nothing.
        for own, offset in zip(self.headers, self.offsets, strict=True):
            source = (SOURCE_OFFSET, _as_big_endian(offset))
            yield [source] if own is None else [*own, source]


def _headers(messages: Sequence[Message]) -> tuple[Sequence[Headers | None], Set[int]]:
    try:
        return list(map(Message.headers, messages)), frozenset()
    except (SystemError, UnicodeDecodeError):
        headers: list[Headers | None] = []
        unreadable = set()
        for row, message in enumerate(messages):
            try:
                headers.append(message.headers())
            except (SystemError, UnicodeDecodeError):
                headers.append(None)
                unreadable.add(row)
        return headers, unreadable
