"""The names of the contract's headers, and a message's headers as Python values."""

from collections.abc import Mapping

from confluent_kafka import Message

#: On clean records: the offset in the raw partition, as 8 bytes.
SOURCE_OFFSET = "source.offset"
#: On clean records and dead letters: the version of the rules that judged the record; see `cleaner.rules`.
RULES_VERSION = "rules.version"
#: On tombstones: the time of the delete, in microseconds since 1970-01-01 UTC, as 8 bytes.
SEQUENCE_TIME = "sequence.time"
#: On replays: <topic>/<partition>/<offset> of the first original.
REPLAY_OF = "replay.of"


def headers_by_name(message: Message) -> Mapping[str, bytes | None]:
    """Headers of a message by name; the last one where a name is repeated."""
    return dict(header_list(message))


def header_list(message: Message) -> list[tuple[str, bytes | None]]:
    """As :func:`readable_headers`, but empty where the client cannot read them."""
    return readable_headers(message) or []


def readable_headers(message: Message) -> list[tuple[str, bytes | None]] | None:
    """Headers of a message in order; None where the client cannot read them, because a name is not UTF-8.

    Call it once for a message: the second time, the client returns a list with holes instead of an error.
    """
    try:
        return list(message.headers() or ())
    except (SystemError, UnicodeDecodeError):
        return None


def big_endian(value: bytes | None) -> int | None:
    """The integer in a header of the contract, 8 bytes signed big-endian; None for other bytes."""
    return int.from_bytes(value, "big", signed=True) if value is not None and len(value) == 8 else None


def as_big_endian(number: int) -> bytes:
    """The inverse of :func:`big_endian`."""
    return number.to_bytes(8, "big", signed=True)
