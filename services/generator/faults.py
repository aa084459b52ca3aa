"""The faults that the generator plants, each with its own probability per record that can have it.

A fault is something that a pipeline has to handle: dirt that it must refuse or mend, and things that are right but
hard, such as returns and late events.
"""

from collections.abc import Mapping
from enum import StrEnum

from retail_stream.wire import HEADER_BYTES, MAGIC, frame


class Fault(StrEnum):
    """A planted fault; ``GENERATOR_FAULT_<NAME>`` is its probability."""

    #: sales: goods come back, with a negative quantity
    RETURN = "return"
    #: sales: ``discount_applied`` below zero
    NEGATIVE_DISCOUNT = "negative_discount"
    #: sales: ``event_time`` more than two seconds and up to LATENCY_MAX_S before it is published
    LATE_EVENT = "late_event"
    #: sales: a sale that was published before, once more
    DUPLICATE = "duplicate"
    #: customers: no email
    NULL_EMAIL = "null_email"
    #: stores: no manager
    NULL_MANAGER = "null_manager"
    #: dimensions: an update older than one that was published before
    OUT_OF_ORDER_UPDATE = "out_of_order_update"
    #: dimensions: another update at the ``last_update_time`` of the last one
    SAME_TIME_UPDATE = "same_time_update"
    #: dimensions: an update that changes nothing but its time
    NO_CHANGE_UPDATE = "no_change_update"
    #: dimensions: the record is deleted
    TOMBSTONE = "tombstone"
    #: all: bytes that are no Avro record
    CORRUPT_BYTES = "corrupt_bytes"
    #: all: a schema id that nobody registered
    UNKNOWN_SCHEMA_ID = "unknown_schema_id"
    #: all: a time more than five minutes after the record's timestamp
    FUTURE_EVENT_TIME = "future_event_time"


Probabilities = Mapping[Fault, float]

#: A time later than the record's timestamp by more than this is in the future (design: five minutes).
FUTURE_US = 300_000_000
#: Larger than any id that a registry gives away.
STRANGE_SCHEMA_ID = 2**31 - 1


def corrupt(value: bytes, pick: float) -> bytes:
    """Bytes of which no reader can make a record. ``pick``: in [0, 1), decides how.

    A cut Avro record always ends too early, since every field before the cut takes the same bytes as before.
    """
    if pick < 0.5:
        return bytes([0xFF]) + value[len(MAGIC) :]
    return value[: HEADER_BYTES + int((pick - 0.5) * 2 * (len(value) - HEADER_BYTES))]


def estrange(value: bytes) -> bytes:
    """The same record behind a schema id that nobody registered."""
    return frame(STRANGE_SCHEMA_ID, value[HEADER_BYTES:])
