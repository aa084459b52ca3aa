"""What a change of a dimension consists of, which faults it may have, and what sales depend on in it. Pure."""

from dataclasses import dataclass, field
from typing import NamedTuple

from services.generator.faults import Fault
from services.generator.records import ProducerRecord, Row, Tally
from services.generator.retailer.catalogue import DimensionSpec
from services.generator.retailer.supply import LEAD_US, Availability
from services.generator.retailer.versions import EVER, Versions

#: Faults of updates, in order of precedence; a record has at most one of them.
UPDATE_FAULTS = (
    Fault.CORRUPT_BYTES,
    Fault.UNKNOWN_SCHEMA_ID,
    Fault.FUTURE_EVENT_TIME,
    Fault.TOMBSTONE,
    Fault.OUT_OF_ORDER_UPDATE,
    Fault.SAME_TIME_UPDATE,
    Fault.NO_CHANGE_UPDATE,
)
#: The faults whose records never become the newest row of their id, so no later update may build on them.
NEVER_NEWEST = frozenset({
    Fault.CORRUPT_BYTES, Fault.UNKNOWN_SCHEMA_ID, Fault.FUTURE_EVENT_TIME, Fault.OUT_OF_ORDER_UPDATE,
})  # fmt: skip


@dataclass
class DimensionState:
    """What a dimension goes on from. ``rows``: the newest row of each id that is not deleted."""

    rows: dict[int, Row] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


class DimensionChange(NamedTuple):
    """A change's record, the availabilities that follow from it, and whether its id is new."""

    record: ProducerRecord
    availabilities: tuple[Availability, ...] = ()
    is_new: bool = False


class Values:
    """The value of each id, now and before: the price of a product, whether a store sells."""

    def __init__(self, spec: DimensionSpec) -> None:
        self._value = spec.value
        self._versions = Versions()
        #: the ids whose value is not 0, and since when
        self._selling: dict[int, int] = {}
        self.at, self.since = self._versions.at, self._versions.since

    def note(self, number: int, row: Row, from_us: int = EVER) -> None:
        """Note the newest row of an id, which is valid from a moment on."""
        value = self._value(row)
        self._versions.add(number, from_us, value)
        if value:
            self._selling.setdefault(number, from_us)
        else:
            self._selling.pop(number, None)

    def withdraw(self, number: int) -> None:
        """Note that an id is withdrawn."""
        self._selling.pop(number, None)

    def forget(self, number: int) -> None:
        """Drop an id."""
        self._versions.forget(number)

    @property
    def any_sells(self) -> bool:
        """Whether there is anything to sell with."""
        return bool(self._selling)

    def may_stop(self, number: int, at_us: int) -> bool:
        """Whether something is left to sell with during every second, if this id stops selling."""
        return any(since <= at_us for other, since in self._selling.items() if other != number)


def effective_us(at_us: int, old: Row) -> int:
    """When a change of a row takes effect that is published at ``at_us``."""
    return max(at_us + LEAD_US, int(old["last_update_time"]) + 1)
