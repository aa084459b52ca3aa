"""The records of one dimension, from a random stream, the time of each record and what was published before."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from retail_stream import topics
from retail_stream.entities import FIELDS
from retail_stream.errors import RetailStreamError
from retail_stream.kafka.headers import SEQUENCE_TIME, as_big_endian
from services.generator.faults import FUTURE_US, Fault, Probabilities, corrupt, with_unknown_schema_id
from services.generator.records import EncodeRow, Evolution, ProducerRecord, Row, Tally
from services.generator.retailer.catalogue import DimensionSpec
from services.generator.retailer.pools import Pools
from services.generator.retailer.supply import CELL_US, Availability
from services.generator.timing.schedule import SECOND_US

#: The largest id of a dimension: an int32.
LAST_ID = 2**31 - 1
_TIME = "last_update_time"
_DAY_US = 86_400 * SECOND_US
#: Initial rows were updated within _PAST_DAYS before the start, and are up to _OLDEST_DAYS older than that.
_PAST_DAYS = 30
_OLDEST_DAYS = 2000
#: An id is withdrawn this long before its tombstone, so that no sale after the tombstone refers to it.
_GRACE_US = 3 * CELL_US
_HOUR_US = 3600 * SECOND_US
#: Faults of updates, in order of precedence; a record has at most one of them.
_UPDATE_FAULTS = (
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


class DimensionStream:
    """Makes one change per call; the same arguments make the same records."""

    def __init__(
        self,
        spec: DimensionSpec,
        rng: random.Random,
        pools: Pools,
        faults: Probabilities,
        encode: EncodeRow,
        state: DimensionState,
        evolution: Evolution[EncodeRow] | None = None,
    ) -> None:
        self.entity = spec.entity
        self._spec = spec
        self._key = FIELDS[spec.entity].key
        self._rng = rng
        self._pools = pools
        self._faults = faults
        self._encode = encode
        self._evolution = evolution
        self._rows = state.rows
        self._next = state.tally.next_id
        self._alive = sorted(state.rows)
        self._initial = min(spec.initial, spec.size)
        #: withdrawn ids without a tombstone yet, and when they were withdrawn
        self._withdrawn: deque[tuple[int, int]] = deque()

    def known(self, at_us: int) -> list[Availability]:
        """The ids that are on the topic already, as availabilities at ``at_us``."""
        return [Availability(at_us, i, self._spec.price_cents(self._rows[i])) for i in self._alive]

    def initial(self, at_us: int) -> Iterator[DimensionChange]:
        """New ids at ``at_us``, until there are as many as the retailer starts with."""
        while len(self._alive) < self._initial:
            past = self._rng.randrange(1, _PAST_DAYS * _DAY_US)
            yield self._create(at_us, past, past + self._rng.randrange(1, _OLDEST_DAYS) * _DAY_US)

    def change(self, at_us: int, mark: Fault | None = None) -> DimensionChange:
        """The next change, at ``at_us``. ``mark``: a burst or silence that the ledger attributes to its record.

        Raises:
            RetailStreamError: the topic has the largest id, so a new row gets none.
        """
        if self._evolution is not None and at_us >= self._evolution.at_us:
            self._encode, self._evolution = self._evolution.encode, None
        change = self._change(at_us)
        if mark is None:
            return change
        return change._replace(record=change.record._replace(faults=(*change.record.faults, mark)))

    def _change(self, at_us: int) -> DimensionChange:
        rng = self._rng
        if self._withdrawn and self._withdrawn[0][1] + _GRACE_US <= at_us:
            return self._delete(at_us)
        if rng.random() < self._spec.new_share or not self._alive:
            return self._replace(at_us)
        fault = next((f for f in _UPDATE_FAULTS if rng.random() < self._faults[f]), None)
        if fault is Fault.TOMBSTONE:
            withdrawn = self._withdraw(at_us) if len(self._alive) > max(1, self._initial // 2) else ()
            return self._usual_update(at_us, withdrawn)
        number = rng.choice(self._alive)
        old = self._rows[number]
        if fault is Fault.NO_CHANGE_UPDATE:
            return self._keep({**old, _TIME: max(at_us, old[_TIME] + 1)}, at_us, fault)
        row = self._update(old)
        if fault is None or fault is Fault.SAME_TIME_UPDATE:
            row[_TIME] = old[_TIME] if fault else max(at_us, old[_TIME] + 1)
            return self._keep(row, at_us, fault)
        # The records below are of NEVER_NEWEST.
        row[_TIME] = max(at_us, old[_TIME] + 1)
        if fault is Fault.OUT_OF_ORDER_UPDATE:
            row[_TIME] = old[_TIME] - rng.randrange(1, _HOUR_US)
        elif fault is Fault.FUTURE_EVENT_TIME:
            row[_TIME] = at_us + FUTURE_US + rng.randrange(SECOND_US, _HOUR_US)
        value = self._encode(row)
        if fault is Fault.CORRUPT_BYTES:
            value = corrupt(value, rng.random())
        elif fault is Fault.UNKNOWN_SCHEMA_ID:
            value = with_unknown_schema_id(value)
        return DimensionChange(ProducerRecord(_key(number), value, at_us, number, (*self._empty_field(row), fault)))

    def _create(self, at_us: int, past_us: int, age_us: int) -> DimensionChange:
        number = self._next
        if number > LAST_ID:
            raise RetailStreamError(
                f"{topics.raw(self.entity)} has the largest possible id, {LAST_ID}, so new {self.entity} can get none; "
                f"delete it and {topics.Result.STATE}, and create both again with `retail-stream init`."
            )
        self._next += 1
        row = self._emptied(self._spec.new(self._rng, self._pools, number, at_us, age_us))
        row[_TIME] = at_us - past_us
        self._rows[number] = row
        self._alive.append(number)
        availability = Availability(at_us, number, self._spec.price_cents(row))
        record = ProducerRecord(_key(number), self._encode(row), at_us, number, self._empty_field(row))
        return DimensionChange(record, (availability,), is_new=True)

    def _update(self, old: Row) -> Row:
        changed = self._spec.update(self._rng, self._pools, old)
        row = self._emptied(changed)
        return row if row != old else changed

    def _emptied(self, row: Row) -> Row:
        if self._spec.emptied is None:
            return row
        fault, name = self._spec.emptied
        return {**row, name: None} if self._rng.random() < self._faults[fault] else row

    def _empty_field(self, row: Row) -> tuple[Fault, ...]:
        """The fault of a row with an empty field, whichever record emptied it."""
        if self._spec.emptied is None or row[self._spec.emptied[1]] is not None:
            return ()
        return (self._spec.emptied[0],)

    def _keep(self, row: Row, at_us: int, fault: Fault | None = None) -> DimensionChange:
        number = row[self._key]
        price = self._spec.price_cents(row)
        repriced = price != self._spec.price_cents(self._rows[number])
        self._rows[number] = row
        faults = self._empty_field(row) if fault is None else (*self._empty_field(row), fault)
        record = ProducerRecord(_key(number), self._encode(row), at_us, number, faults)
        return DimensionChange(record, (Availability(at_us, number, price),) if repriced else ())

    def _replace(self, at_us: int) -> DimensionChange:
        """A new id. It replaces one where the dimension has its size; above it, an id is only withdrawn."""
        withdrawn = self._withdraw(at_us) if len(self._alive) >= self._spec.size else ()
        if len(self._alive) >= self._spec.size:
            return self._usual_update(at_us, withdrawn)
        created = self._create(at_us, 0, 0)
        return created._replace(availabilities=(*withdrawn, *created.availabilities))

    def _usual_update(self, at_us: int, withdrawn: tuple[Availability, ...]) -> DimensionChange:
        row = self._update(self._rows[self._rng.choice(self._alive)])
        row[_TIME] = max(at_us, row[_TIME] + 1)
        update = self._keep(row, at_us)
        return update._replace(availabilities=(*withdrawn, *update.availabilities))

    def _withdraw(self, at_us: int) -> tuple[Availability]:
        """Withdraw an id; its tombstone follows as soon as no sale can refer to it."""
        place = self._rng.randrange(len(self._alive))
        number = self._alive[place]
        self._alive[place] = self._alive[-1]
        self._alive.pop()
        self._withdrawn.append((number, at_us))
        return (Availability(at_us, number, None),)

    def _delete(self, at_us: int) -> DimensionChange:
        """The tombstone of the id that was withdrawn first."""
        number, _ = self._withdrawn.popleft()
        time = max(at_us, self._rows.pop(number)[_TIME] + 1)
        header = (SEQUENCE_TIME, as_big_endian(time))
        return DimensionChange(ProducerRecord(_key(number), None, at_us, number, (Fault.TOMBSTONE,), (header,)))


def _key(number: int) -> bytes:
    return b"%d" % number
