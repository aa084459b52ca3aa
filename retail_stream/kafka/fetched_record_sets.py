"""aiokafka consumers that give out record sets instead of records.

`install` replaces two private names of `aiokafka.consumer.fetcher`, the same from 0.10 to 0.14, for the whole process.
Then `getmany` returns for each partition a list of one item: a `RecordSet`, or the error that stands in its place.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka import conn
from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition

from retail_stream.kafka.record_batches.errors import CorruptBatch
from retail_stream.kafka.record_batches.record_set import RecordSet, record_set
from retail_stream.kafka.record_batches.transactions import AbortedTransaction

_READ_AHEAD_BYTES = 2**20


def install() -> None:
    """Replace the fetcher's parsing in this process; may be called again."""
    fetcher.MemoryRecords = _Fetched
    fetcher.PartitionRecords = _Unparsed
    # Between aiokafka's two readers of a socket: at its 64 KiB each fetch is stopped and started again many times.
    conn.READER_LIMIT = _READ_AHEAD_BYTES


class _Fetched:
    """In place of `MemoryRecords`: the bytes of one partition in a fetch response."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def has_next(self) -> bool:
        """Whether there is a whole batch."""
        return len(self.data) >= 12 and len(self.data) >= 12 + int.from_bytes(self.data[8:12], "big", signed=True)

    def size_in_bytes(self) -> int:
        """0: of a batch that does not fit in a response, the fetcher would skip a record without a word.

        Brokers send the first batch whole since Kafka 0.10.1.
        """
        return 0


class _Unparsed:
    """In place of `PartitionRecords`: an iterator over one item, with the position behind it."""

    def __init__(
        self,
        tp: TopicPartition,
        records: _Fetched,
        aborted_transactions: list[AbortedTransaction] | None,
        fetch_offset: int,
        key_deserializer: Any,
        value_deserializer: Any,
        check_crcs: bool,
        isolation_level: int,
    ) -> None:
        self.next_fetch_offset = fetch_offset
        self._item = self._items(tp, records, aborted_transactions, check_crcs, isolation_level)

    def __iter__(self) -> Iterator[RecordSet | CorruptBatch]:
        return self

    def __next__(self) -> RecordSet | CorruptBatch:
        return next(self._item)

    def _items(
        self,
        tp: TopicPartition,
        records: _Fetched,
        aborted: list[AbortedTransaction] | None,
        check_crcs: bool,
        isolation_level: int,
    ) -> Iterator[RecordSet | CorruptBatch]:
        try:
            found = record_set(
                tp.topic,
                tp.partition,
                records.data,
                self.next_fetch_offset,
                aborted,
                read_committed=isolation_level == fetcher.READ_COMMITTED,
                check_crc=check_crcs,
            )
        except CorruptBatch as error:
            # Not raised: `getmany` would forget what it has taken of other partitions, whose positions have moved.
            yield error
        else:
            self.next_fetch_offset = found.next_offset
            yield found
