"""A chunk of Kafka messages as parallel columns, each read in one sweep."""

import struct
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from confluent_kafka import Message

from retail_stream.entities import Entity
from retail_stream.kafka.headers import RULES_VERSION, SEQUENCE_TIME, SOURCE_OFFSET, big_endian
from services.cleaner.clean import Raw

Headers = list[tuple[str, bytes | None]]

#: Stands for headers that cannot be read; recognised by its identity.
_LOST: Headers = []

_as_big_endian = struct.Struct(">q").pack


@dataclass(frozen=True)
class Records:
    """Records of one partition, in order; ``timestamps`` in milliseconds."""

    topic: str
    partition: int
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    timestamps: Sequence[int]
    offsets: Sequence[int]
    messages: Sequence[Message]

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "Records":
        """``messages``: at least one, all of one partition."""
        return cls(
            topic=str(messages[0].topic()),
            partition=int(messages[0].partition()),
            values=list(map(Message.value, messages)),
            keys=list(map(Message.key, messages)),
            timestamps=[time for _, time in map(Message.timestamp, messages)],
            offsets=list(map(Message.offset, messages)),
            messages=messages,
        )

    @property
    def headers(self) -> Sequence[Headers | None]:
        """Row by row; None if a record has no headers, or none that can be read."""
        return self._headers[0]

    @property
    def unreadable(self) -> Set[int]:
        """Rows whose headers the client cannot read, because the name of one is not UTF-8."""
        return self._headers[1]

    @cached_property
    def _headers(self) -> tuple[Sequence[Headers | None], Set[int]]:
        headers: list[Headers | None] = []
        rest = map(Message.headers, self.messages)
        while len(headers) < len(self.messages):
            try:
                headers.extend(rest)
            except (SystemError, UnicodeDecodeError):
                # The client keeps a list with holes and would return it to the next caller, such as the second attempt
                # of a batch with a new schema id.
                self.messages[len(headers)].set_headers(_LOST)
                headers.append(_LOST)
        lost = {row for row, own in enumerate(headers) if own is _LOST}
        return [None if own is _LOST else own for own in headers] if lost else headers, lost

    def __len__(self) -> int:
        return len(self.values)

    def raw(self, entity: Entity) -> Raw:
        """The records as the rules need them."""
        tombstones = None in self.values
        sequence_times = {
            row: big_endian(dict(headers)[SEQUENCE_TIME])
            for row, (value, headers) in enumerate(zip(self.values, self.headers, strict=True) if tombstones else ())
            if value is None and headers and SEQUENCE_TIME in dict(headers)
        }
        return Raw(entity, self.values, self.keys, self.timestamps, sequence_times, self.unreadable)

    def with_source(self, version: str) -> Iterator[Headers]:
        """Each record's headers, ``source.offset`` and ``rules.version``."""
        judged = (RULES_VERSION, version.encode())
        # Not a list: ten thousand of these at once would keep the garbage collector busy.
        for own, offset in zip(self.headers, self.offsets, strict=True):
            source = (SOURCE_OFFSET, _as_big_endian(offset))
            yield [source, judged] if own is None else [*own, source, judged]
