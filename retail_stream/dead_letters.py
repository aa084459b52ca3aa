"""The headers of a dead letter: Kafka Connect's names, the broken rules, and the version of the rules."""

from enum import StrEnum

from retail_stream.errors import Rejected

Headers = list[tuple[str, bytes]]


class Header(StrEnum):
    """Names of the headers that a dead letter adds to the record's own; their values are UTF-8 text."""

    TOPIC = "__connect.errors.topic"
    PARTITION = "__connect.errors.partition"
    OFFSET = "__connect.errors.offset"
    STAGE = "__connect.errors.stage"
    EXCEPTION = "__connect.errors.exception.class.name"
    MESSAGE = "__connect.errors.exception.message"
    RULES = "rules"
    RULES_VERSION = "rules.version"
    PAYLOAD = "payload"


#: Value of `Header.PAYLOAD`, on a dead letter without key and value: they are too large for its topic.
IN_RAW_TOPIC = b"in raw topic"


def headers(topic: str, partition: int, offset: int, rejected: Rejected, version: str) -> Headers:
    """The added headers of the dead letter of a raw record. ``version``: of the rules that judged it."""
    texts = {
        Header.TOPIC: topic,
        Header.PARTITION: str(partition),
        Header.OFFSET: str(offset),
        Header.STAGE: rejected.stage,
        Header.EXCEPTION: f"{Rejected.__module__}.{Rejected.__qualname__}",
        Header.MESSAGE: str(rejected),
        Header.RULES: ",".join(rejected.rules),
        Header.RULES_VERSION: version,
    }
    return [(str(name), text.encode()) for name, text in texts.items()]
