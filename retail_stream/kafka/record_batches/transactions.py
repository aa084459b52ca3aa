"""Which batches a `read_committed` reader sees."""

from collections.abc import Sequence

from retail_stream.kafka.record_batches.batch import Batch
from retail_stream.kafka.record_batches.errors import Malformed
from retail_stream.kafka.record_batches.reference import FaultyRecord, decode

#: The type of a transaction's marker, in the second pair of bytes of its key; 1 is a commit.
_ABORT = 0
_MARKER_BYTES = 2**16

AbortedTransaction = tuple[int, int]


class Transactions:
    """Tells which batches of a record set are read, batch by batch in offset order.

    `aborted`: (producer id, first offset) of each aborted transaction, from the fetch response. It lasts until the
    producer's next abort marker::

        aborted (7, 10)    offset 10 producer 7 · 11 producer 8 · 12 producer 7 · 13 abort of 7 · 14 producer 7
        read                                   11                                              14
    """

    def __init__(self, aborted: Sequence[AbortedTransaction]) -> None:
        self._waiting = sorted(aborted, key=lambda transaction: transaction[1], reverse=True)
        self._aborting: set[int] = set()

    def reads(self, batch: Batch) -> bool:
        """Whether it is neither a marker nor part of an aborted transaction. Raises `Malformed` for a bad marker."""
        while self._waiting and self._waiting[-1][1] <= batch.last_offset:
            self._aborting.add(self._waiting.pop()[0])
        if batch.is_control:
            if _is_abort(batch):
                self._aborting.discard(batch.producer_id)
            return False
        return not (batch.is_transactional and batch.producer_id in self._aborting)


def _is_abort(batch: Batch) -> bool:
    if not batch.count:  # compaction removed the marker
        return False
    body = batch.body(_MARKER_BYTES)
    try:
        marker = next(decode(bytes(body.data), 1, 0, body.last_delta, 0))
    except FaultyRecord as error:
        raise Malformed(f"its marker cannot be read: {error}") from error
    if marker.key is None or len(marker.key) < 4:
        raise Malformed("its marker has no type")
    return int.from_bytes(marker.key[2:4], "big") == _ABORT
