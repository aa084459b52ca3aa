"""Consecutive records of one partition as columns, and record sets that wait to become such."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import RecordSet


@dataclass(frozen=True, eq=False)
class PartitionRecords:
    """Consecutive records of one partition: all that it holds in the offsets [start, end), in order.

    ``pieces``: the records, none of the pieces empty. ``end`` is the partition's own end where that was reached:
    transaction markers may lie behind the last record.
    """

    pieces: tuple[Columns, ...]
    start: int
    end: int

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    @property
    def size(self) -> int:
        """Bytes in memory. Pieces that share a buffer count it each."""
        return sum(piece.size for piece in self.pieces)

    def find(self, offset: int) -> tuple[Columns, int]:
        """The piece that holds the record of an offset, and the record's number in it. Raises `KeyError`."""
        # By halves: after quiet traffic a batch has thousands of pieces.
        piece = self.pieces[max(0, bisect_right(self.pieces, offset, key=lambda p: int(p.offset[0])) - 1)]
        row = int(np.searchsorted(piece.offset, offset))
        if row < len(piece) and piece.offset[row] == offset:
            return piece, row
        raise KeyError(offset)

    def halves(self) -> "tuple[PartitionRecords, PartitionRecords]":
        """The first and the second half of at least two records."""
        left = len(self) // 2
        first: list[Columns] = []
        second: list[Columns] = []
        for piece in self.pieces:
            first += [piece.slice(0, left)] if left > 0 else []
            second += [piece.slice(left, len(piece))] if left < len(piece) else []
            left = max(0, left - len(piece))
        middle = int(second[0].offset[0])
        return PartitionRecords(tuple(first), self.start, middle), PartitionRecords(tuple(second), middle, self.end)


class Unread:
    """What was fetched of one partition and is not read yet: compressed, but for the piece in hand."""

    def __init__(self, position: int) -> None:
        """``position``: the next offset to read; what comes from before it is dropped."""
        self.position = position
        self._sets: deque[RecordSet] = deque()
        self._reading: tuple[Iterator[Columns], int] | None = None
        #: Compressed bytes that wait.
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._sets) or self._reading is not None

    def add(self, fetched: RecordSet) -> None:
        """A record set that follows those before."""
        self._sets.append(fetched)
        self.size += fetched.size

    def piece(self) -> Columns | None:
        """The next piece, and move behind it; None when no records are left.

        Raises:
            CorruptBatch: the batch at ``position`` cannot be read.
        """
        while self:
            if self._reading is None:
                self._begin()
            assert self._reading is not None
            found, end = self._reading
            piece = next(found, None)
            if piece is not None:
                self.position = int(piece.offset[-1]) + 1
                return piece
            self.position = max(self.position, end)
            self._reading = None
        return None

    def _begin(self) -> None:
        """Read all that waits as one record set: small fetches become few pieces."""
        batches = tuple(batch for fetched in self._sets for batch in fetched.batches)
        first, end = self._sets[0], self._sets[-1].next_offset
        self._sets.clear()
        self.size = 0
        start = max(first.fetch_offset, self.position)
        self._reading = pieces(replace(first, batches=batches, fetch_offset=start, next_offset=end)), end
