"""The stream of sales, a block at a time: records, given a random stream, the slots and what the market offers.

Money is counted in whole cents and divided at the end, so that every amount has two decimals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from services.generator.apparel import PAYMENT_METHODS, TAX_PERCENT
from services.generator.arrays import Column, Floats, Ints
from services.generator.faults import FUTURE_US, Fault, Probabilities, corrupt, estrange
from services.generator.latency import Distribution, shares
from services.generator.market import Market
from services.generator.partitions import partition_of
from services.generator.purchases import RECENT, Columns, Copy, Purchases
from services.generator.records import NO_FAULTS, Batch, Evolution
from services.generator.schedule import SECOND_US, Slots

BLOCK = 4096
#: Without the faults of lateness, a sale is published within this time, mostly much sooner.
_PROMPT_US = 2 * SECOND_US
_HOUR_US = 3600 * SECOND_US
#: How long beyond LATENCY_MAX_S the fault `too_late_event` begins, and over how long it spreads.
_TOO_LATE_US, _TOO_LATE_SPREAD_US = 300 * SECOND_US, 1500 * SECOND_US
#: One row of random numbers for each decision about a sale, in this order for ever: it shapes the records.
_DECISIONS = (
    "store", "product", "customer", "quantity", "payment", "discounted", "discount", "tardy", "lateness",
    "return_", "purchase", "pieces", "negative", "duplicate", "original", "corrupt", "how", "strange", "future",
    "too_late",
)  # fmt: skip
#: Vocabulary of the strings of a sale, and which of them each of a hundred customers takes.
VOCABULARIES = {"payment_method": tuple(PAYMENT_METHODS)}
_METHODS = np.repeat(np.arange(len(PAYMENT_METHODS)), list(PAYMENT_METHODS.values()))

#: Columns of sales (strings as numbers of the vocabulary) and how many → their values.
Encode = Callable[[Mapping[str, Column], int], list[bytes]]


@dataclass
class Tail:
    """What the end of the sales topic says: the next id, the newest time, and recent sales."""

    next_id: int = 1
    newest_us: int = 0
    purchases: Purchases = field(default_factory=Purchases)


class SalesStream:
    """Makes blocks of sales; the same arguments in the same order make the same records."""

    def __init__(
        self,
        rng: np.random.Generator,
        faults: Probabilities,
        latency_max_us: int,
        encode: Encode,
        tail: Tail,
        distribution: Distribution = Distribution.UNIFORM,
        partitions: int = 1,
        evolution: Evolution | None = None,
    ) -> None:
        """``partitions``: of the topic, for silences of one of them."""
        self._rng = rng
        self._faults = faults
        self._latency_max = latency_max_us
        self._distribution = distribution
        self._encode = encode
        self._evolution = evolution
        self._next = tail.next_id
        self._recent = tail.purchases
        self._partitions = partitions
        #: by store id: its key and partition
        self._keys: list[bytes] = []
        self._places: Ints = np.zeros(0, np.int64)
        #: partitions that were silent, until their next record
        self._silent: set[int] = set()

    def block(self, slots: Slots, market: Market) -> Batch:
        """One record for each slot, in order."""
        at, size = slots.at_us, len(slots)
        u = dict(zip(_DECISIONS, self._rng.random((len(_DECISIONS), size)), strict=True))
        self._know_stores(market)
        store, customer = market.stores.popular(u["store"]), market.customers.evenly(u["customer"])
        product = market.products.popular(u["product"])
        self._hush(store, slots.quiet, u["store"], market)
        price = market.products.prices[product]
        quantity = 1 + (u["quantity"] ** 4 * 5).astype(np.int64)
        event = at - self._delay(u)

        wanted = np.flatnonzero(u["return_"] < self._faults[Fault.RETURN])
        back, bought, pieces = self._recent.bring_back(wanted, u["purchase"][wanted], u["pieces"][wanted], market)
        heard = np.flatnonzero(self._places[bought.store] != slots.quiet[back])
        back, bought, pieces = back[heard], bought.rows(heard), pieces[heard]
        store[back], customer[back], product[back] = bought.store, bought.customer, bought.product
        price[back], quantity[back] = bought.price_cents, -pieces
        event[back] = np.maximum(event[back], bought.event_us)

        total = quantity * price
        is_return = quantity < 0
        discount = np.where((u["discounted"] < 0.2) & ~is_return, _percent(total, 5 + u["discount"] * 25), 0)
        negative = u["negative"] < self._faults[Fault.NEGATIVE_DISCOUNT]
        discount = np.where(negative, -1 - _percent(np.abs(total), u["discount"] * 20), discount)
        tax = _percent(total - np.maximum(discount, 0), np.full(size, TAX_PERCENT))
        delay = at - event
        future = u["future"] < self._faults[Fault.FUTURE_EVENT_TIME]
        event = np.where(future, at + FUTURE_US + SECOND_US + (u["how"] * _HOUR_US).astype(np.int64), event)

        copies = self._copies(u, slots)
        again = np.zeros(size, bool)
        again[list(copies)] = True
        numbers = self._next + np.cumsum(~again) - 1
        self._next += size - len(copies)
        planted = {
            Fault.RETURN: is_return,
            Fault.NEGATIVE_DISCOUNT: negative,
            Fault.FUTURE_EVENT_TIME: future,
            Fault.LATE_EVENT: (delay > _PROMPT_US) & (delay <= self._latency_max) & ~future,
            Fault.TOO_LATE_EVENT: (delay > max(_PROMPT_US, self._latency_max)) & ~future,
            Fault.UNKNOWN_SCHEMA_ID: u["strange"] < self._faults[Fault.UNKNOWN_SCHEMA_ID],
            Fault.CORRUPT_BYTES: u["corrupt"] < self._faults[Fault.CORRUPT_BYTES],
        }
        columns = {
            "transaction_id": numbers,
            "store_id": store,
            "event_time": event,
            "customer_id": customer,
            "product_id": product,
            "quantity": quantity,
            "unit_price": price / 100.0,
            "total_amount": total / 100.0,
            "payment_method": _METHODS[(u["payment"] * len(_METHODS)).astype(np.int64)],
            "discount_applied": discount / 100.0,
            "tax_amount": tax / 100.0,
        }
        batch = self._batch(columns, at, planted, u["how"], copies)
        bad = again | negative | future | planted[Fault.UNKNOWN_SCHEMA_ID] | planted[Fault.CORRUPT_BYTES]
        purchases = Columns(store, customer, product, price, quantity, event)
        self._recent.add(
            purchases.rows(np.flatnonzero(~bad & ~is_return)),
            [
                Copy(batch.keys[i], batch.values[i] or b"", batch.ids[i])
                for i in np.flatnonzero(~bad)[-RECENT:].tolist()
            ],
        )
        self._mark(batch, slots)
        return batch

    def _delay(self, u: dict[str, Floats]) -> Ints:
        prompt = min(_PROMPT_US, self._latency_max)
        delay = u["lateness"] ** 4 * prompt
        tardy = prompt + 1 + shares(u["lateness"], self._distribution) * (self._latency_max - prompt - 1)
        is_tardy = (u["tardy"] < self._faults[Fault.LATE_EVENT]) & (self._latency_max > prompt)
        too_late = self._latency_max + _TOO_LATE_US + u["lateness"] * _TOO_LATE_SPREAD_US
        is_too_late = u["too_late"] < self._faults[Fault.TOO_LATE_EVENT]
        return np.where(is_too_late, too_late, np.where(is_tardy, tardy, delay)).astype(np.int64)

    def _know_stores(self, market: Market) -> None:
        for number in range(len(self._keys), len(market.stores.prices)):
            self._keys.append(b"%d" % number)
        if len(self._places) < len(self._keys):
            self._places = np.array([partition_of(key, self._partitions) for key in self._keys], np.int64)

    def _hush(self, store: Ints, quiet: Ints, u: Floats, market: Market) -> None:
        """Where a partition is silent, its customers go to other stores."""
        for partition in np.unique(quiet[quiet >= 0]).tolist():
            self._silent.add(partition)
            others = np.flatnonzero(self._places != partition)
            others = others[market.stores.alive(others)]
            here = (quiet == partition) & (self._places[store] == partition)
            if len(others):
                store[here] = others[(u[here] * len(others)).astype(np.int64)]

    def _copies(self, u: dict[str, Floats], slots: Slots) -> dict[int, Copy]:
        found: dict[int, Copy] = {}
        for row in np.flatnonzero(u["duplicate"] < self._faults[Fault.DUPLICATE]).tolist():
            copy = self._recent.copy(u["original"][row])
            if copy is not None and self._place(copy.key) != slots.quiet[row]:
                found[row] = copy
        return found

    def _place(self, key: bytes) -> int:
        # Other sources may sell in stores that we do not know, or have keys that are no numbers.
        return partition_of(key, self._partitions)

    def _batch(
        self,
        columns: dict[str, Column],
        at_us: Ints,
        planted: dict[Fault, Column],
        how: Floats,
        copies: dict[int, Copy],
    ) -> Batch:
        values: list[bytes | None] = self._encoded(columns, at_us)
        keys = list(map(self._keys.__getitem__, columns["store_id"].tolist()))
        batch = Batch(keys, values, at_us.tolist(), columns["transaction_id"].tolist(), _labels(planted))
        for row, faults in batch.faults.items():
            value = values[row] or b""
            if Fault.UNKNOWN_SCHEMA_ID in faults:
                value = estrange(value)
            if Fault.CORRUPT_BYTES in faults:
                value = corrupt(value, float(how[row]))
            values[row] = value
        for row, copy in copies.items():
            keys[row], values[row], batch.ids[row] = copy
            batch.faults[row] = (Fault.DUPLICATE,)
        batch.faults = dict(sorted(batch.faults.items()))
        return batch

    def _encoded(self, columns: dict[str, Column], at_us: Ints) -> list[bytes | None]:
        size = len(at_us)
        old = size if self._evolution is None else int(np.searchsorted(at_us, self._evolution.at_us))
        values: list[bytes | None] = list(self._encode({n: c[:old] for n, c in columns.items()}, old))
        if self._evolution is not None and old < size:
            values += self._evolution.encode({n: c[old:] for n, c in columns.items()}, size - old)
        return values

    def _mark(self, batch: Batch, slots: Slots) -> None:
        """Bursts that begin and silences that are over are faults of the records with which they do."""
        marks = dict(slots.marks)
        for partition in sorted(self._silent):
            ends = (
                i for i, key in enumerate(batch.keys) if slots.quiet[i] != partition and self._place(key) == partition
            )
            if (row := next(ends, None)) is not None:
                self._silent.discard(partition)
                marks[row] = Fault.SILENCE
        for row, fault in marks.items():
            batch.faults[row] = (*batch.faults.get(row, NO_FAULTS), fault)
        if marks:
            batch.faults = dict(sorted(batch.faults.items()))


def _percent(cents: Ints, percent: Floats) -> Ints:
    return np.rint(cents * percent / 100).astype(np.int64)


def _labels(planted: dict[Fault, Column]) -> dict[int, tuple[Fault, ...]]:
    names = tuple(planted)
    bits: Ints = np.sum([where.astype(np.int64) << i for i, where in enumerate(planted.values())], axis=0)
    rows = np.flatnonzero(bits)
    sets = {b: tuple(f for i, f in enumerate(names) if b >> i & 1) for b in np.unique(bits[rows]).tolist()}
    return {row: sets[b] for row, b in zip(rows.tolist(), bits[rows].tolist(), strict=True)}
