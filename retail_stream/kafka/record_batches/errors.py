"""What can be wrong with a batch."""


class Malformed(ValueError):
    """Bytes that are not what Kafka's format says; its text is the reason."""


class TooLarge(ValueError):
    """Compressed bytes that expand beyond a limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it expands to more than {limit:,} bytes")


class UnreadableBatch(Exception):
    """A batch that cannot be read. Reading on would lose its records, so the partition stops there."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(f"The batch at {topic}/{partition}@{offset} cannot be read: {reason}.")
        self.topic, self.partition, self.offset = topic, partition, offset


class CorruptBatch(UnreadableBatch):
    """Its checksum or its structure is wrong; another fetch may bring it whole."""


class BatchTooLarge(UnreadableBatch):
    """It expands beyond the limit for one batch; another fetch brings the same."""
