"""The faults that the generator plants, each with its own probability per record that can have it.

A fault is something that a pipeline has to handle: dirt that it must refuse or mend, and things that are right but
hard, such as returns and late events.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from retail_stream.avro.decode import HEADER_BYTES, MAGIC, frame


class Fault(StrEnum):
    """A planted fault; ``GENERATOR_FAULT_<NAME>`` is its probability."""

    #: sales: goods come back, with a negative quantity
    RETURN = "return"
    #: sales: ``discount_applied`` below zero
    NEGATIVE_DISCOUNT = "negative_discount"
    #: customers: no email
    NULL_EMAIL = "null_email"
    #: stores: no manager
    NULL_MANAGER = "null_manager"
    #: sales: ``event_time`` more than two seconds and up to LATENCY_MAX_S before it is published
    LATE_EVENT = "late_event"
    #: sales: ``event_time`` five to thirty minutes before what LATENCY_MAX_S promises
    TOO_LATE_EVENT = "too_late_event"
    #: dimensions: an update older than one that was published before
    OUT_OF_ORDER_UPDATE = "out_of_order_update"
    #: sales: a sale that was published before, once more
    DUPLICATE = "duplicate"
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
    #: all, per half minute: many records in a few seconds, see traffic.py
    BURST = "burst"
    #: all, per half minute: no records for twenty seconds, of sales sometimes of one partition only
    SILENCE = "silence"


class Expected(StrEnum):
    """What a pipeline should do with the record of a ledger entry."""

    #: it is in the clean topic once, and a sale's fact in the warehouse
    KEPT = "kept"
    #: it is in the dead letter queue and not in the clean topic
    REJECTED = "rejected"
    #: it is in the clean topic, with `Unknown` for what is missing
    DEFAULTED = "defaulted"
    #: it counts in its windows, or is on `sales.late`; its fact is in the warehouse either way
    LATE = "counted_or_late"
    #: the sale that it repeats has one fact
    COUNTED_ONCE = "counted_once"
    #: the history of its id in the warehouse is that of all its changes in order of their time
    MERGED = "merged_in_order"


EXPECTED: Mapping[Fault, Expected] = {
    Fault.RETURN: Expected.KEPT,
    Fault.NEGATIVE_DISCOUNT: Expected.REJECTED,
    Fault.NULL_EMAIL: Expected.DEFAULTED,
    Fault.NULL_MANAGER: Expected.DEFAULTED,
    Fault.LATE_EVENT: Expected.LATE,
    Fault.TOO_LATE_EVENT: Expected.LATE,
    Fault.OUT_OF_ORDER_UPDATE: Expected.MERGED,
    Fault.DUPLICATE: Expected.COUNTED_ONCE,
    Fault.SAME_TIME_UPDATE: Expected.MERGED,
    Fault.NO_CHANGE_UPDATE: Expected.MERGED,
    Fault.TOMBSTONE: Expected.MERGED,
    Fault.CORRUPT_BYTES: Expected.REJECTED,
    Fault.UNKNOWN_SCHEMA_ID: Expected.REJECTED,
    Fault.FUTURE_EVENT_TIME: Expected.REJECTED,
    Fault.BURST: Expected.KEPT,
    Fault.SILENCE: Expected.KEPT,
}


def expected(faults: Iterable[Fault]) -> dict[Fault, Expected]:
    """What should happen to a record, by each of its faults.

    One that must be refused is refused for all of them, and nobody has to keep a duplicate, whatever else it is.
    """
    each = {fault: EXPECTED[fault] for fault in faults}
    if Expected.REJECTED in each.values():
        return dict.fromkeys(each, Expected.REJECTED)
    if Fault.DUPLICATE in each:
        return {f: Expected.COUNTED_ONCE if e is Expected.KEPT else e for f, e in each.items()}
    return each


Probabilities = Mapping[Fault, float]


class Profile(StrEnum):
    """Probabilities set together, by ``GENERATOR_PROFILE``."""

    CALM = "calm"
    BRIEF = "brief"
    HOSTILE = "hostile"


#: ``brief``: returns, prices and people as sources send them, some sales late, and now and then each of the rest.
#: ``hostile``: everything, often, but fewer rejects than DLQ_MAX_RATIO.
PROFILES: Mapping[Profile, Probabilities] = {
    Profile.CALM: dict.fromkeys(Fault, 0.0) | {Fault.RETURN: 0.05},
    Profile.BRIEF: {
        Fault.RETURN: 0.05,
        Fault.NEGATIVE_DISCOUNT: 0.01,
        Fault.NULL_EMAIL: 0.03,
        Fault.NULL_MANAGER: 0.03,
        Fault.LATE_EVENT: 0.10,
        Fault.TOO_LATE_EVENT: 0.0,
        Fault.OUT_OF_ORDER_UPDATE: 0.05,
        Fault.DUPLICATE: 0.005,
        Fault.SAME_TIME_UPDATE: 0.01,
        Fault.NO_CHANGE_UPDATE: 0.02,
        Fault.TOMBSTONE: 0.005,
        Fault.CORRUPT_BYTES: 0.001,
        Fault.UNKNOWN_SCHEMA_ID: 0.001,
        Fault.FUTURE_EVENT_TIME: 0.001,
        Fault.BURST: 0.0,
        Fault.SILENCE: 0.0,
    },
    Profile.HOSTILE: {
        Fault.RETURN: 0.10,
        Fault.NEGATIVE_DISCOUNT: 0.05,
        Fault.NULL_EMAIL: 0.10,
        Fault.NULL_MANAGER: 0.10,
        Fault.LATE_EVENT: 0.20,
        Fault.TOO_LATE_EVENT: 0.02,
        Fault.OUT_OF_ORDER_UPDATE: 0.15,
        Fault.DUPLICATE: 0.05,
        Fault.SAME_TIME_UPDATE: 0.05,
        Fault.NO_CHANGE_UPDATE: 0.05,
        Fault.TOMBSTONE: 0.02,
        Fault.CORRUPT_BYTES: 0.02,
        Fault.UNKNOWN_SCHEMA_ID: 0.01,
        Fault.FUTURE_EVENT_TIME: 0.02,
        Fault.BURST: 0.25,
        Fault.SILENCE: 0.15,
    },
}

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
