"""The records of one dimension, from a random stream, the time of each record and what was published before."""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from retail_stream import topics
from retail_stream.entities import FIELDS
from retail_stream.errors import RetailStreamError
from retail_stream.kafka.headers import SEQUENCE_TIME, as_big_endian
from services.generator.faults import FUTURE_US, Fault, Probabilities, corrupt, with_unknown_schema_id
from services.generator.records import EncodeRow, Evolution, ProducerRecord, Row
from services.generator.retailer.catalogue import DimensionSpec
from services.generator.retailer.changes import UPDATE_FAULTS, DimensionChange, DimensionState, Values, effective_us
from services.generator.retailer.pools import Pools
from services.generator.retailer.stock import Stock
from services.generator.retailer.supply import CELL_US, Availability
from services.generator.retailer.versions import EVER
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
#: The share of a product's usual updates that show its stock, if any changed; the others show a new price.
_STOCK_SHARE = 0.6


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
        stock: Stock | None = None,
    ) -> None:
        """``stock``: of the products; then their rows show it."""
        self.entity = spec.entity
        self._spec = spec
        self._key = FIELDS[spec.entity].key
        self._rng = rng
        self._pools = pools
        self._faults = faults
        self._encode = encode
        self._evolution = evolution
        self._stock = stock
        self._rows = state.rows
        self._next = state.tally.next_id
        self._alive = sorted(state.rows)
        self._initial = min(spec.initial, spec.size)
        #: withdrawn ids without a tombstone yet, and when they were withdrawn
        self._withdrawn: deque[tuple[int, int]] = deque()
        self._values = Values(spec)
        for number in self._alive:
            self._values.note(number, self._rows[number], self._rows[number][_TIME])

    def known(self, at_us: int) -> list[Availability]:
        """The ids that are on the topic already, as availabilities at ``at_us``. Called once, before any change."""
        known = []
        for number in self._alive:
            row = self._rows[number]
            stock = 0 if self._stock is None else self._stock.resume(number, row["stock_quantity"], at_us)
            known.append(Availability(at_us, number, self._spec.value(row), row[_TIME], stock))
        return known

    def initial(self, at_us: int) -> Iterator[DimensionChange]:
        """New ids at ``at_us``, until there are as many as the retailer starts with, and one with which it can sell."""
        while len(self._alive) < self._initial or not self._values.any_sells:
            past = self._rng.randrange(1, _PAST_DAYS * _DAY_US)
            yield self._create(at_us, past, past + self._rng.randrange(1, _OLDEST_DAYS) * _DAY_US)

    def sold(self, pieces: Mapping[int, int]) -> None:
        """Count pieces that were sold: product → pieces. Later changes show them."""
        if self._stock is not None:
            self._stock.report(pieces)

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
        fault = next((f for f in UPDATE_FAULTS if rng.random() < self._faults[f]), None)
        if fault is Fault.TOMBSTONE:
            withdrawn = self._withdraw(at_us) if len(self._alive) > max(1, self._initial // 2) else ()
            return self._usual_update(at_us, withdrawn)
        if fault is None:
            return self._usual_update(at_us)
        number = rng.choice(self._alive)
        old = self._rows[number]
        if fault is Fault.NO_CHANGE_UPDATE:
            return self._keep({**old, _TIME: effective_us(at_us, old)}, at_us, fault)
        if fault is Fault.SAME_TIME_UPDATE:
            return self._keep(self._changed(self._spec.redone, old), at_us, fault)
        # The records below are of NEVER_NEWEST.
        if fault is Fault.OUT_OF_ORDER_UPDATE:
            known_us = min(_HOUR_US, old[_TIME] - self._values.since(number))
            if known_us < 1:
                return self._usual_update(at_us)
            past_us = old[_TIME] - rng.randrange(1, known_us + 1)
            # What sales depend on stays what it was then.
            row = self._changed(self._spec.redone, old)
            row = {**self._spec.with_value(row, self._values.at(number, past_us)), _TIME: past_us}
        else:
            row = self._changed(self._spec.update, old)
            row[_TIME] = effective_us(at_us, old)
            if fault is Fault.FUTURE_EVENT_TIME:
                row[_TIME] = at_us + FUTURE_US + rng.randrange(SECOND_US, _HOUR_US)
        value = self._encode(row)
        if fault is Fault.CORRUPT_BYTES:
            value = corrupt(value, rng.random())
        elif fault is Fault.UNKNOWN_SCHEMA_ID:
            value = with_unknown_schema_id(value)
        return DimensionChange(ProducerRecord(b"%d" % number, value, at_us, number, (*self._empty_field(row), fault)))

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
        self._values.note(number, row)
        stock = None if self._stock is None else row["stock_quantity"]
        if self._stock is not None:
            self._stock.open(number, row["stock_quantity"], at_us)
        availability = Availability(at_us, number, self._spec.value(row), EVER, stock or 0)
        faults = self._empty_field(row)
        record = ProducerRecord(b"%d" % number, self._encode(row), at_us, number, faults, delivered=stock)
        return DimensionChange(record, (availability,), is_new=True)

    def _changed(self, change: Callable[[random.Random, Pools, Row], Row], old: Row) -> Row:
        changed = change(self._rng, self._pools, old)
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

    def _keep(self, row: Row, at_us: int, fault: Fault | None = None, delivered: int = 0) -> DimensionChange:
        """A record that becomes the newest row of its id. ``delivered``: pieces of a product."""
        number, value = row[self._key], self._spec.value(row)
        differs = value != self._spec.value(self._rows[number])
        self._rows[number] = row
        self._values.note(number, row, row[_TIME])
        faults = self._empty_field(row) if fault is None else (*self._empty_field(row), fault)
        total = self._stock.delivered(number) if self._stock is not None and delivered else None
        record = ProducerRecord(b"%d" % number, self._encode(row), at_us, number, faults, delivered=total)
        availability = Availability(at_us, number, value, row[_TIME], delivered)
        return DimensionChange(record, (availability,) if differs or delivered else ())

    def _replace(self, at_us: int) -> DimensionChange:
        """A new id. It replaces one where the dimension has its size; above it, an id is only withdrawn."""
        full = len(self._alive) >= self._spec.size
        withdrawn = self._withdraw(at_us, replaced=len(self._alive) == self._spec.size) if full else ()
        if len(self._alive) >= self._spec.size:
            return self._usual_update(at_us, withdrawn)
        created = self._create(at_us, 0, 0)
        return created._replace(availabilities=(*withdrawn, *created.availabilities))

    def _usual_update(self, at_us: int, withdrawn: tuple[Availability, ...] = ()) -> DimensionChange:
        number, delivered = None, 0
        if self._stock is not None and self._rng.random() < _STOCK_SHARE:
            number = self._stock.due()
        if number is None or self._stock is None:
            row, number = self._with_another_value(at_us)
        else:
            delivered = self._stock.deliver(number, at_us, self._rng)
            row = dict(self._rows[number])
        if self._stock is not None:
            row["stock_quantity"] = self._stock.count(number)
        if row == self._rows[number]:
            row = self._changed(self._spec.update, row)
        row[_TIME] = effective_us(at_us, self._rows[number])
        update = self._keep(row, at_us, delivered=delivered)
        return update._replace(availabilities=(*withdrawn, *update.availabilities))

    def _with_another_value(self, at_us: int) -> tuple[Row, int]:
        """An update of a random id, and the id."""
        number = self._rng.choice(self._alive)
        old = self._rows[number]
        row = self._changed(self._spec.update, old)
        if not self._spec.value(row) and self._spec.value(old) and not self._values.may_stop(number, at_us):
            row = self._changed(self._spec.redone, old)
        return row, number

    def _withdraw(self, at_us: int, replaced: bool = False) -> tuple[Availability, ...]:
        """Withdraw an id, unless nothing would be left; its tombstone follows as soon as no sale can refer to it.

        ``replaced``: a new id follows at the same time.
        """
        place = self._rng.randrange(len(self._alive))
        number = self._alive[place]
        if not replaced and not self._values.may_stop(number, at_us):
            return ()
        self._alive[place] = self._alive[-1]
        self._alive.pop()
        self._values.withdraw(number)
        if self._stock is not None:
            self._stock.close(number)
        self._withdrawn.append((number, at_us))
        return (Availability(at_us, number, None),)

    def _delete(self, at_us: int) -> DimensionChange:
        """The tombstone of the id that was withdrawn first."""
        number, _ = self._withdrawn.popleft()
        self._values.forget(number)
        time = max(at_us, self._rows.pop(number)[_TIME] + 1)
        header = (SEQUENCE_TIME, as_big_endian(time))
        record = ProducerRecord(b"%d" % number, None, at_us, number, (Fault.TOMBSTONE,), (header,))
        return DimensionChange(record, (Availability(at_us, number, None, closed=True),))
