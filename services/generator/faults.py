"""The faults that the generator plants, each with its own probability per record that can have it.

A fault is something that a pipeline must handle: dirt to reject or repair, and data that is right but hard to process,
such as returns and late events.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from retail_stream.avro.decode import HEADER_BYTES, MAGIC, frame


class Fault(StrEnum):
    """A planted fault; ``GENERATOR_FAULT_<NAME>`` is its probability."""

    #: sales: a return, with a negative quantity
    RETURN = "return"
    #: sales: ``discount_applied`` below zero
    NEGATIVE_DISCOUNT = "negative_discount"
    #: customers: no email
    NULL_EMAIL = "null_email"
    #: stores: no manager
    NULL_MANAGER = "null_manager"
    #: sales: ``event_time`` lies more than two seconds and at most LATENCY_MAX_S before the publication
    LATE_EVENT = "late_event"
    #: sales: ``event_time`` lies five to thirty minutes longer before the publication than LATENCY_MAX_S allows
    TOO_LATE_EVENT = "too_late_event"
    #: dimensions: an update that is older than one already published
    OUT_OF_ORDER_UPDATE = "out_of_order_update"
    #: sales: an earlier sale, published again
    DUPLICATE = "duplicate"
    #: dimensions: another update with the ``last_update_time`` of the previous one
    SAME_TIME_UPDATE = "same_time_update"
    #: dimensions: an update that changes only its time
    NO_CHANGE_UPDATE = "no_change_update"
    #: dimensions: a delete
    TOMBSTONE = "tombstone"
    #: all: bytes that are not an Avro record
    CORRUPT_BYTES = "corrupt_bytes"
    #: all: a schema id that is not registered
    UNKNOWN_SCHEMA_ID = "unknown_schema_id"
    #: all: a time more than five minutes after the record's timestamp
    FUTURE_EVENT_TIME = "future_event_time"
    #: all, per half minute: many records in a few seconds, see timing/traffic.py
    BURST = "burst"
    #: all, per half minute: no records for twenty seconds; of sales sometimes in one partition only
    SILENCE = "silence"


class Expected(StrEnum):
    """What a pipeline should do with the record of a ledger entry."""

    #: the record is on the clean topic once; a sale's fact is in the warehouse
    KEPT = "kept"
    #: the record is in the dead letter queue and not on the clean topic
    REJECTED = "rejected"
    #: the record is on the clean topic, with `Unknown` in the empty field
    DEFAULTED = "defaulted"
    #: the sale counts in its windows or is on `sales.late`; its fact is in the warehouse either way
    LATE = "counted_or_late"
    #: the sale and its duplicate have one fact
    COUNTED_ONCE = "counted_once"
    #: the warehouse's history of the id consists of all its changes in order of their time
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
#: The faults that make a record a dead letter.
REJECTED = tuple(f for f, then in EXPECTED.items() if then is Expected.REJECTED)


def expected(faults: Iterable[Fault]) -> dict[Fault, Expected]:
    """What should happen to a record, by each of its faults.

    A fault that rejects the record decides for all its faults. A duplicate does not have to be kept.
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


#: ``brief``: returns and late sales as real sources send them, and a few of most other faults.
#: ``hostile``: all faults, often, but fewer rejects than DLQ_MAX_RATIO.
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

#: A time more than this after the record's timestamp lies in the future: five minutes, as the contract says.
FUTURE_US = 300_000_000
#: Larger than any id that a registry assigns.
UNKNOWN_SCHEMA_ID = 2**31 - 1


def corrupt(value: bytes, pick: float) -> bytes:
    """Damage a value so that it is not an Avro record. ``pick``, in [0, 1), decides how.

    A truncated record always ends too early, since the fields before the cut keep their lengths.
    """
    if pick < 0.5:
        return bytes([0xFF]) + value[len(MAGIC) :]
    return value[: HEADER_BYTES + int((pick - 0.5) * 2 * (len(value) - HEADER_BYTES))]


def with_unknown_schema_id(value: bytes) -> bytes:
    """The same record behind a schema id that is not registered."""
    return frame(UNKNOWN_SCHEMA_ID, value[HEADER_BYTES:])
