"""Records before they are sent: one at a time, and many as columns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from services.generator.faults import Fault

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
#: A numeric column. A string field's column holds each string's number in the field's vocabulary.
Column = npt.NDArray[Any]

#: A row of an entity: field → value, times as int64 microseconds.
Row = dict[str, Any]
Headers = tuple[tuple[str, bytes], ...]

NO_FAULTS: tuple[Fault, ...] = ()


class ProducerRecord(NamedTuple):
    """A record ready to send.

    ``at_us``: when it is published, in microseconds since 1970-01-01 UTC; in milliseconds it is the Kafka timestamp.
    ``id``: the entity's own id (of a sale its ``transaction_id``), known also where the value is damaged.
    ``faults``: the faults planted in it. ``delivered``: pieces of the product that were delivered so far,
    where the record changes them.
    """

    key: bytes
    value: bytes | None
    at_us: int
    id: int
    faults: tuple[Fault, ...] = NO_FAULTS
    headers: Headers = ()
    delivered: int | None = None


@dataclass
class ProducerBatch:
    """Records as columns of equal length. ``faults`` and ``headers`` have an entry for each row that has any.

    What else changes with them: ``delivered``, product → pieces that were delivered so far. Of sales ``products`` and
    ``pieces``, per row: what leaves the stock; and ``closed``: products that have their tombstone.
    """

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    faults: dict[int, tuple[Fault, ...]] = field(default_factory=dict)
    headers: dict[int, Headers] = field(default_factory=dict)
    delivered: dict[int, int] = field(default_factory=dict)
    products: list[int] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, records: Sequence[ProducerRecord]) -> "ProducerBatch":
        """The records as columns."""
        keys, values = [r.key for r in records], [r.value for r in records]
        at_us, ids = [r.at_us for r in records], [r.id for r in records]
        faults = {i: r.faults for i, r in enumerate(records) if r.faults}
        headers = {i: r.headers for i, r in enumerate(records) if r.headers}
        delivered = {r.id: r.delivered for r in records if r.delivered is not None}
        return cls(keys, values, at_us, ids, faults, headers, delivered)

    def __len__(self) -> int:
        return len(self.keys)

    def records(self) -> Iterator[ProducerRecord]:
        """The records one by one."""
        for i, row in enumerate(zip(self.keys, self.values, self.at_us, self.ids, strict=True)):
            yield ProducerRecord(*row, self.faults.get(i, NO_FAULTS), self.headers.get(i, ()))

    def append(self, other: "ProducerBatch") -> None:
        """Add the other batch's records at the end."""
        shift = len(self)
        self.keys += other.keys
        self.values += other.values
        self.at_us += other.at_us
        self.ids += other.ids
        self.faults.update((i + shift, f) for i, f in other.faults.items())
        self.headers.update((i + shift, h) for i, h in other.headers.items())
        self.delivered |= other.delivered
        self.products += other.products
        self.pieces += other.pieces
        self.closed += other.closed

    def part(self, start: int, stop: int) -> "ProducerBatch":
        """Rows ``start`` to ``stop`` (exclusive) of sales. What is closed goes with the first row."""
        keys, values = self.keys[start:stop], self.values[start:stop]
        at_us, ids = self.at_us[start:stop], self.ids[start:stop]
        faults = {i - start: f for i, f in self.faults.items() if start <= i < stop}
        headers = {i - start: h for i, h in self.headers.items() if start <= i < stop}
        products, pieces, closed = self.products[start:stop], self.pieces[start:stop], [] if start else self.closed
        return ProducerBatch(keys, values, at_us, ids, faults, headers, {}, products, pieces, closed)


class Tally(NamedTuple):
    """How far the records of an entity go: the next id, how many they are, their newest timestamp (0: none)."""

    next_id: int = 1
    records: int = 0
    newest_us: int = 0

    def after(self, batch: ProducerBatch) -> "Tally":
        """The tally once the batch is published. Its ids need not be new."""
        return Tally(
            max(self.next_id, max(batch.ids, default=0) + 1),
            self.records + len(batch),
            max(self.newest_us, max(batch.at_us, default=0)),
        )


#: A row of a dimension → its value.
EncodeRow = Callable[[Row], bytes]
#: Columns of sales and their length → one value per row.
EncodeColumns = Callable[[dict[str, Column], int], list[bytes]]
Encode = TypeVar("Encode", EncodeRow, EncodeColumns)


class Evolution(NamedTuple, Generic[Encode]):
    """From ``at_us`` on, inclusive, ``encode`` writes an entity's records: with a newer schema."""

    at_us: int
    encode: Encode
