"""What can be wrong with a batch."""


class Malformed(ValueError):
    """Bytes that are not what Kafka's format says; its text is the reason."""


class TooLarge(ValueError):
    """Compressed bytes that expand beyond a limit."""


class CorruptBatch(Exception):
    """A batch that is not what Kafka's format says; another fetch may bring it whole.

    Reading on would lose its records, so the partition stops there.
    """

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(f"The batch at {topic}/{partition}@{offset} cannot be read: {reason}.")
        self.topic, self.partition, self.offset = topic, partition, offset
