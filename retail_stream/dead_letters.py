"""The headers of a dead letter: Kafka Connect's names, plus which rules and which version of them."""

from collections.abc import Sequence
from enum import StrEnum

Headers = list[tuple[str, bytes]]


class Header(StrEnum):
    """Names of headers that a dead letter adds to the record's own (values are UTF-8 text)."""

    TOPIC = "__connect.errors.topic"
    PARTITION = "__connect.errors.partition"
    OFFSET = "__connect.errors.offset"
    STAGE = "__connect.errors.stage"
    EXCEPTION = "__connect.errors.exception.class.name"
    MESSAGE = "__connect.errors.exception.message"
    RULES = "rules"
    RULES_VERSION = "rules.version"


def headers(
    topic: str, partition: int, offset: int, stage: str, rules: Sequence[str], version: str, message: str
) -> Headers:
    """Where the record was, at which stage it was rejected, and every rule that it broke."""
    texts = {
        Header.TOPIC: topic,
        Header.PARTITION: str(partition),
        Header.OFFSET: str(offset),
        Header.STAGE: stage,
        Header.EXCEPTION: "retail_stream.errors.Rejected",
        Header.MESSAGE: message,
        Header.RULES: ",".join(rules),
        Header.RULES_VERSION: version,
    }
    return [(str(name), text.encode()) for name, text in texts.items()]
