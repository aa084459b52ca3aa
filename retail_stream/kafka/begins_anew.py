"""The error for a partition that ends before the position of its reader."""

from aiokafka.errors import KafkaError

from retail_stream.kafka.offsets import TopicPartitionKey


class BeginsAnew(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """Its topic was deleted and made again, or it lost records: what is read next does not follow what was read."""

    def __init__(self, key: TopicPartitionKey, position: int, offset: int) -> None:
        """``position``: where the reader is; ``offset``: where the partition ends, or sent its reader back to."""
        super().__init__()
        self._why = (
            f"{key[0]}/{key[1]} was read up to offset {position:,} and goes on at {offset:,}: its topic was deleted "
            "and made again, or it lost records; see docs/failures.md."
        )

    def __str__(self) -> str:
        return self._why
