"""What one fetch brings of a partition."""

from collections.abc import Sequence
from dataclasses import dataclass

from retail_stream.kafka.record_batches import batch as batches
from retail_stream.kafka.record_batches.batch import Batch
from retail_stream.kafka.record_batches.codecs import Bytes
from retail_stream.kafka.record_batches.errors import CorruptBatch, Malformed
from retail_stream.kafka.record_batches.transactions import AbortedTransaction, Transactions


@dataclass(frozen=True, slots=True, eq=False)
class RecordSet:
    """The batches to read, still compressed.

    It holds the records from `fetch_offset` (inclusive) to `next_offset` (exclusive). Records of the first batch may
    lie below `fetch_offset`: a broker sends whole batches. Without batches it is a stretch of markers, aborted
    transactions or compacted records; the position moves to `next_offset` all the same.
    """

    topic: str
    partition: int
    batches: tuple[Batch, ...]
    fetch_offset: int
    next_offset: int

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory, as fetched."""
        return sum(len(b.data) for b in self.batches)


def record_set(
    topic: str,
    partition: int,
    data: Bytes,
    fetch_offset: int,
    aborted: Sequence[AbortedTransaction] | None = (),
    *,
    read_committed: bool = True,
    check_crc: bool = True,
) -> RecordSet:
    """The record set of a fetch response's bytes; checksums compared, nothing decompressed.

    `aborted`: (producer id, first offset) of the aborted transactions that the response names. Markers are left out
    also where `read_committed` is False. The record set ends before the first corrupt batch.

    Raises:
        CorruptBatch: the checksum or the header of the first batch is wrong, so there is nothing to read.
    """
    transactions = Transactions((aborted or ()) if read_committed else ())
    found: list[Batch] = []
    next_offset = fetch_offset
    try:
        for batch in batches.split(data):
            if check_crc:
                batch.check_crc()
            if transactions.reads(batch) and batch.count and batch.next_offset > fetch_offset:
                found.append(batch)
            next_offset = max(next_offset, batch.next_offset)
    except Malformed as error:
        if next_offset == fetch_offset:
            raise CorruptBatch(topic, partition, fetch_offset, str(error)) from error
    return RecordSet(topic, partition, tuple(found), fetch_offset, next_offset)
