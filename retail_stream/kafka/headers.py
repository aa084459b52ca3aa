"""The headers of the contract, and headers of a message as Python values."""

from collections.abc import Mapping

from confluent_kafka import Message

SOURCE_OFFSET = "source.offset"


SEQUENCE_TIME = "sequence.time"


REPLAY_OF = "replay.of"


def headers_by_name(message: Message) -> Mapping[str, bytes]:
    """Headers of a message by name; of a repeated name the last."""
    return dict(header_list(message))  # type: ignore[arg-type]


def header_list(message: Message) -> list[tuple[str, bytes | None]]:
    """As :func:`readable_headers`; none where the client cannot read them."""
    return readable_headers(message) or []


def readable_headers(message: Message) -> list[tuple[str, bytes | None]] | None:
    """Headers of a message in order; None where the client cannot read them: one has a name that is no UTF-8.

    To be asked once: of such a message the client gives a list with holes the second time.
    """
    try:
        return list(message.headers() or ())
    except (SystemError, UnicodeDecodeError):
        return None


def big_endian(value: bytes | None) -> int | None:
    """The signed 8-byte big-endian integer that the contract's headers hold, or None where it is not one."""
    return int.from_bytes(value, "big", signed=True) if value is not None and len(value) == 8 else None


def as_big_endian(number: int) -> bytes:
    """The inverse of :func:`big_endian`."""
    return number.to_bytes(8, "big", signed=True)
