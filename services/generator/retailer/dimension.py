"""The stream of one dimension: records, given a random stream, the time of each and what was published before."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from retail_stream import topics
from retail_stream.entities import FIELDS
from retail_stream.errors import RetailStreamError
from retail_stream.kafka.headers import SEQUENCE_TIME, as_big_endian
from services.generator.publishing.faults import FUTURE_US, Fault, Probabilities, corrupt, estrange
from services.generator.publishing.records import Encoder, Evolution, Record, Row
from services.generator.retailer.catalogue import Kind
from services.generator.retailer.pools import Pools
from services.generator.retailer.supply import CELL_US, Change
from services.generator.state.found import LAST_ID
from services.generator.timing.schedule import SECOND_US

_TIME = "last_update_time"
_DAY_US = 86_400 * SECOND_US
#: The catalogue at the start was last touched within these days before it.
_PAST_DAYS = 30
_OLDEST_DAYS = 2000
#: An id is given up this long before its tombstone, so that no sale after the tombstone refers to it.
_GRACE_US = 3 * CELL_US
_HOUR_US = 3600 * SECOND_US
#: Faults of updates, in order of precedence: a record has at most one of them.
_UPDATE_FAULTS = (
    Fault.CORRUPT_BYTES,
    Fault.UNKNOWN_SCHEMA_ID,
    Fault.FUTURE_EVENT_TIME,
    Fault.TOMBSTONE,
    Fault.OUT_OF_ORDER_UPDATE,
    Fault.SAME_TIME_UPDATE,
    Fault.NO_CHANGE_UPDATE,
)


@dataclass
class State:
    """What a dimension's topic holds: the newest row of each living id, the next id, and how many records."""

    rows: dict[int, Row] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    next_id: int = 1
    records: int = 0
    newest_us: int = 0


class Made(NamedTuple):
    """A record, what sales need to know of it, and whether its id is new."""

    record: Record
    changes: tuple[Change, ...] = ()
    is_new: bool = False


class DimensionStream:
    """Makes one record per call; the same arguments make the same records."""

    def __init__(
        self,
        kind: Kind,
        rng: random.Random,
        pools: Pools,
        faults: Probabilities,
        encode: Encoder,
        state: State,
        evolution: Evolution | None = None,
    ) -> None:
        self.entity = kind.entity
        self._kind = kind
        self._key = FIELDS[kind.entity].key
        self._rng = rng
        self._pools = pools
        self._faults = faults
        self._encode = encode
        self._evolution = evolution
        self._rows = state.rows
        self._next = state.next_id
        self._alive = sorted(state.rows)
        #: ids without a tombstone yet, with the time when they were given up
        self._given_up: deque[tuple[int, int]] = deque()

    def known(self, at_us: int) -> list[Change]:
        """What is on the topic already, as changes at ``at_us``."""
        return [Change(at_us, i, self._kind.price_cents(self._rows[i])) for i in self._alive]

    def initial(self, at_us: int) -> Iterator[Made]:
        """New ids until there are as many as the retailer starts with."""
        while self._next <= self._kind.initial:
            past = self._rng.randrange(1, _PAST_DAYS * _DAY_US)
            yield self._create(at_us, past, past + self._rng.randrange(1, _OLDEST_DAYS) * _DAY_US)

    def change(self, at_us: int, mark: Fault | None = None) -> Made:
        """The change at ``at_us``, and what sales need to know of it. ``mark``: one more fault that it shows."""
        if self._evolution is not None and at_us >= self._evolution.at_us:
            self._encode, self._evolution = self._evolution.encode, None
        made = self._change(at_us)
        if mark is None:
            return made
        return made._replace(record=made.record._replace(faults=(*made.record.faults, mark)))

    def _change(self, at_us: int) -> Made:
        rng = self._rng
        if rng.random() < self._kind.new_share or not self._alive:
            return self._create(at_us, 0, 0)
        fault = next((f for f in _UPDATE_FAULTS if rng.random() < self._faults[f]), None)
        if fault is Fault.TOMBSTONE:
            return self._delete(at_us)
        number = rng.choice(self._alive)
        old = self._rows[number]
        if fault is Fault.NO_CHANGE_UPDATE:
            return self._keep({**old, _TIME: max(at_us, old[_TIME] + 1)}, at_us, fault)
        row = self._update(old)
        if fault is None or fault is Fault.SAME_TIME_UPDATE:
            row[_TIME] = old[_TIME] if fault else max(at_us, old[_TIME] + 1)
            return self._keep(row, at_us, fault)
        # What follows is not the newest state of the id, for nobody, so it is not remembered either.
        row[_TIME] = max(at_us, old[_TIME] + 1)
        if fault is Fault.OUT_OF_ORDER_UPDATE:
            row[_TIME] = old[_TIME] - rng.randrange(1, _HOUR_US)
        elif fault is Fault.FUTURE_EVENT_TIME:
            row[_TIME] = at_us + FUTURE_US + rng.randrange(SECOND_US, _HOUR_US)
        value = self._encode(row)
        if fault is Fault.CORRUPT_BYTES:
            value = corrupt(value, rng.random())
        elif fault is Fault.UNKNOWN_SCHEMA_ID:
            value = estrange(value)
        return Made(Record(_key(number), value, at_us, number, (*self._lacks(row), fault)))

    def _create(self, at_us: int, past_us: int, age_us: int) -> Made:
        number = self._next
        if number > LAST_ID:
            raise RetailStreamError(
                f"{topics.raw(self.entity)} has an id of {LAST_ID}, so that there is none left for new {self.entity}."
            )
        self._next += 1
        row = self._emptied(self._kind.new(self._rng, self._pools, number, at_us, age_us))
        row[_TIME] = at_us - past_us
        self._rows[number] = row
        self._alive.append(number)
        change = Change(at_us, number, self._kind.price_cents(row))
        record = Record(_key(number), self._encode(row), at_us, number, self._lacks(row))
        return Made(record, (change,), is_new=True)

    def _update(self, old: Row) -> Row:
        changed = self._kind.update(self._rng, self._pools, old)
        row = self._emptied(changed)
        return row if row != old else changed

    def _emptied(self, row: Row) -> Row:
        if self._kind.emptied is None:
            return row
        fault, name = self._kind.emptied
        return {**row, name: None} if self._rng.random() < self._faults[fault] else row

    def _lacks(self, row: Row) -> tuple[Fault, ...]:
        """The fault of a row with an empty field, also where it was emptied by an earlier record."""
        if self._kind.emptied is None or row[self._kind.emptied[1]] is not None:
            return ()
        return (self._kind.emptied[0],)

    def _keep(self, row: Row, at_us: int, fault: Fault | None = None) -> Made:
        number = row[self._key]
        price = self._kind.price_cents(row)
        repriced = price != self._kind.price_cents(self._rows[number])
        self._rows[number] = row
        faults = self._lacks(row) if fault is None else (*self._lacks(row), fault)
        record = Record(_key(number), self._encode(row), at_us, number, faults)
        return Made(record, (Change(at_us, number, price),) if repriced else ())

    def _delete(self, at_us: int) -> Made:
        """Give up one id; publish the tombstone of one that was given up long enough ago, else an update."""
        given_up: tuple[Change, ...] = ()
        if len(self._alive) > max(1, self._kind.initial // 2):
            place = self._rng.randrange(len(self._alive))
            number = self._alive[place]
            self._alive[place] = self._alive[-1]
            self._alive.pop()
            self._given_up.append((number, at_us))
            given_up = (Change(at_us, number, None),)
        if self._given_up and self._given_up[0][1] + _GRACE_US <= at_us:
            number, _ = self._given_up.popleft()
            time = max(at_us, self._rows.pop(number)[_TIME] + 1)
            header = (SEQUENCE_TIME, as_big_endian(time))
            return Made(Record(_key(number), None, at_us, number, (Fault.TOMBSTONE,), (header,)), given_up)
        row = self._update(self._rows[self._rng.choice(self._alive)])
        row[_TIME] = max(at_us, row[_TIME] + 1)
        made = self._keep(row, at_us)
        return Made(made.record, (*given_up, *made.changes))


def _key(number: int) -> bytes:
    return b"%d" % number
