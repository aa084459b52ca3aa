"""A chunk as the message that Faust carries to a stream."""

from typing import Any, cast

from faust.types import TP, ConsumerMessage

from services.cleaner.transport.chunks import Chunk


def as_message(chunk: Chunk, tp: TP, generation_id: int) -> ConsumerMessage:
    """Offset and timestamp are those of the last record; the value is the chunk itself."""
    last = chunk.records[-1]
    timestamp_type, timestamp_ms = last.timestamp()
    return ConsumerMessage(
        topic=chunk.topic,
        partition=chunk.partition,
        offset=last.offset(),
        timestamp=timestamp_ms / 1000,
        timestamp_type=timestamp_type,
        headers=None,
        key=None,
        value=cast("Any", chunk),
        checksum=None,
        tp=tp,
        generation_id=generation_id,
    )
