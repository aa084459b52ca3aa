"""What one fetch brings of a partition."""

from collections.abc import Sequence
from dataclasses import dataclass

from retail_stream.kafka.record_batches import batch as batches
from retail_stream.kafka.record_batches.batch import Batch
from retail_stream.kafka.record_batches.codecs import Bytes
from retail_stream.kafka.record_batches.errors import CorruptBatch, Malformed
from retail_stream.kafka.record_batches.transactions import AbortedTransaction, committed


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
    also where `read_committed` is False.

    Raises:
        CorruptBatch: a checksum or a header is wrong. It names the first offset that was not read.
    """
    next_offset = fetch_offset
    checked: list[Batch] = []
    try:
        for batch in batches.split(data):
            if check_crc:
                batch.check_crc()
            checked.append(batch)
            next_offset = max(next_offset, batch.next_offset)
        readable = committed(checked, aborted or ()) if read_committed else (b for b in checked if not b.is_control)
        found = tuple(b for b in readable if b.count and b.next_offset > fetch_offset)
    except Malformed as error:
        raise CorruptBatch(topic, partition, next_offset, str(error)) from error
    return RecordSet(topic, partition, found, fetch_offset, next_offset)
