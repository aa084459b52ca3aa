"""The stream of sales, a block at a time: records, given a random stream, the slots and what the market offers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from services.generator.publishing.faults import EXPECTED, FUTURE_US, Expected, Fault, Probabilities, corrupt, estrange
from services.generator.publishing.partitions import Stores
from services.generator.publishing.records import NO_FAULTS, Batch, Evolution
from services.generator.retailer.amounts import fields
from services.generator.retailer.apparel import PAYMENT_METHODS
from services.generator.retailer.arrays import Column, Floats, Ints
from services.generator.retailer.market import Market
from services.generator.retailer.purchases import RECENT, Columns, Copy, Purchases
from services.generator.state.found import LAST_SALE
from services.generator.timing.latency import Distribution, shares
from services.generator.timing.schedule import SECOND_US, Slots

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
#: Vocabulary of the strings of a sale.
VOCABULARIES = {"payment_method": tuple(PAYMENT_METHODS)}
#: What makes a sale a dead letter.
_REFUSED = tuple(f for f, then in EXPECTED.items() if then is Expected.REJECTED)

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
        self._stores = Stores(partitions)
        #: partitions that were silent, until their next record
        self._silent: set[int] = set()

    def block(self, slots: Slots, market: Market) -> Batch:
        """One record for each slot, in order.

        Raises:
            RetailStreamError: the topic has so large an id that there is none left.
        """
        u = dict(zip(_DECISIONS, self._rng.random((len(_DECISIONS), len(slots))), strict=True))
        sold = self._sold(u, slots, market)
        self._bring_back(sold, u, slots, market)
        planted = self._planted(u, slots.at_us, sold)
        ahead = slots.at_us + FUTURE_US + SECOND_US + (u["how"] * _HOUR_US).astype(np.int64)
        sold.event_us = np.where(planted[Fault.FUTURE_EVENT_TIME], ahead, sold.event_us)
        copies = self._copies(u, slots)
        columns = {"transaction_id": self._numbers(len(slots), copies), **fields(u, sold, planted)}
        batch = self._batch(columns, slots.at_us, planted, u["how"], copies)
        self._remember(batch, sold, planted, copies)
        self._mark(batch, slots)
        return batch

    def _sold(self, u: dict[str, Floats], slots: Slots, market: Market) -> Columns:
        """What is bought, before some of it becomes a return."""
        store, product = market.stores.popular(u["store"]), market.products.popular(u["product"])
        self._hush(store, slots.quiet, u["store"], market)
        return Columns(
            store=store,
            customer=market.customers.evenly(u["customer"]),
            product=product,
            price_cents=market.products.prices(product),
            left=1 + (u["quantity"] ** 4 * 5).astype(np.int64),
            event_us=slots.at_us - self._delay(u),
        )

    def _bring_back(self, sold: Columns, u: dict[str, Floats], slots: Slots, market: Market) -> None:
        """Make returns of some rows: of earlier purchases, with negative quantities."""
        wanted = np.flatnonzero(u["return_"] < self._faults[Fault.RETURN])
        back, bought, pieces = self._recent.bring_back(wanted, u["purchase"][wanted], u["pieces"][wanted], market)
        if (slots.quiet[back] >= 0).any():
            heard = np.flatnonzero(self._stores.partitions(bought.store) != slots.quiet[back])
            back, bought, pieces = back[heard], bought.rows(heard), pieces[heard]
        sold.store[back], sold.customer[back], sold.product[back] = bought.store, bought.customer, bought.product
        sold.price_cents[back], sold.left[back] = bought.price_cents, -pieces
        sold.event_us[back] = np.maximum(sold.event_us[back], bought.event_us)

    def _planted(self, u: dict[str, Floats], at: Ints, sold: Columns) -> dict[Fault, Column]:
        """By fault, the rows that have it."""
        delay, future = at - sold.event_us, u["future"] < self._faults[Fault.FUTURE_EVENT_TIME]
        return {
            Fault.RETURN: sold.left < 0,
            Fault.NEGATIVE_DISCOUNT: u["negative"] < self._faults[Fault.NEGATIVE_DISCOUNT],
            Fault.FUTURE_EVENT_TIME: future,
            Fault.LATE_EVENT: (delay > _PROMPT_US) & (delay <= self._latency_max) & ~future,
            Fault.TOO_LATE_EVENT: (delay > max(_PROMPT_US, self._latency_max)) & ~future,
            Fault.UNKNOWN_SCHEMA_ID: u["strange"] < self._faults[Fault.UNKNOWN_SCHEMA_ID],
            Fault.CORRUPT_BYTES: u["corrupt"] < self._faults[Fault.CORRUPT_BYTES],
        }

    def _numbers(self, size: int, copies: dict[int, Copy]) -> Ints:
        """The ids: one that is published again takes no new one."""
        if self._next + size > LAST_SALE:
            raise RetailStreamError(f"{topics.raw(Entity.SALES)} has an id of about {LAST_SALE}: none is left.")
        new = np.ones(size, bool)
        new[list(copies)] = False
        numbers = self._next + np.cumsum(new) - 1
        self._next += size - len(copies)
        return numbers

    def _remember(self, batch: Batch, sold: Columns, planted: dict[Fault, Column], copies: dict[int, Copy]) -> None:
        """What is right may be brought back, and may come again."""
        good = ~np.any([planted[fault] for fault in _REFUSED], axis=0)
        good[list(copies)] = False
        is_return = planted[Fault.RETURN]
        self._recent.add(
            sold.rows(np.flatnonzero(good & ~is_return)),
            [
                Copy(batch.keys[i], batch.values[i] or b"", batch.ids[i], bool(is_return[i]))
                for i in np.flatnonzero(good)[-RECENT:].tolist()
            ],
        )

    def _delay(self, u: dict[str, Floats]) -> Ints:
        prompt = min(_PROMPT_US, self._latency_max)
        delay = u["lateness"] ** 4 * prompt
        tardy = prompt + 1 + shares(u["lateness"], self._distribution) * (self._latency_max - prompt - 1)
        is_tardy = (u["tardy"] < self._faults[Fault.LATE_EVENT]) & (self._latency_max > prompt)
        too_late = self._latency_max + _TOO_LATE_US + u["lateness"] * _TOO_LATE_SPREAD_US
        is_too_late = u["too_late"] < self._faults[Fault.TOO_LATE_EVENT]
        return np.where(is_too_late, too_late, np.where(is_tardy, tardy, delay)).astype(np.int64)

    def _hush(self, store: Ints, quiet: Ints, u: Floats, market: Market) -> None:
        """Where a partition is silent, its customers go to other stores."""
        for partition in np.unique(quiet[quiet >= 0]).tolist():
            self._silent.add(partition)
            living = market.stores.living
            others = living[self._stores.partitions(living) != partition]
            here = (quiet == partition) & (self._stores.partitions(store) == partition)
            if len(others):
                store[here] = others[(u[here] * len(others)).astype(np.int64)]

    def _copies(self, u: dict[str, Floats], slots: Slots) -> dict[int, Copy]:
        found: dict[int, Copy] = {}
        for row in np.flatnonzero(u["duplicate"] < self._faults[Fault.DUPLICATE]).tolist():
            copy = self._recent.copy(u["original"][row])
            if copy is not None and self._stores.partition(copy.key) != slots.quiet[row]:
                found[row] = copy
        return found

    def _batch(
        self,
        columns: dict[str, Column],
        at_us: Ints,
        planted: dict[Fault, Column],
        how: Floats,
        copies: dict[int, Copy],
    ) -> Batch:
        values: list[bytes | None] = self._encoded(columns, at_us)
        keys = self._stores.keys(columns["store_id"])
        batch = Batch(keys, values, at_us.tolist(), columns["transaction_id"].tolist(), _labels(planted))
        for row, faults in batch.faults.items():
            value = values[row] or b""
            if Fault.UNKNOWN_SCHEMA_ID in faults:
                value = estrange(value)
            if Fault.CORRUPT_BYTES in faults:
                value = corrupt(value, float(how[row]))
            values[row] = value
        for row, copy in copies.items():
            keys[row], values[row], batch.ids[row], is_return = copy
            batch.faults[row] = (Fault.DUPLICATE, Fault.RETURN) if is_return else (Fault.DUPLICATE,)
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
                i
                for i, key in enumerate(batch.keys)
                if slots.quiet[i] != partition and self._stores.partition(key) == partition
            )
            if (row := next(ends, None)) is not None:
                self._silent.discard(partition)
                marks[row] = Fault.SILENCE
        for row, fault in marks.items():
            batch.faults[row] = (*batch.faults.get(row, NO_FAULTS), fault)
        if marks:
            batch.faults = dict(sorted(batch.faults.items()))


def _labels(planted: dict[Fault, Column]) -> dict[int, tuple[Fault, ...]]:
    names = tuple(planted)
    bits: Ints = np.sum([where.astype(np.int64) << i for i, where in enumerate(planted.values())], axis=0)
    rows = np.flatnonzero(bits)
    sets = {b: tuple(f for i, f in enumerate(names) if b >> i & 1) for b in np.unique(bits[rows]).tolist()}
    return {row: sets[b] for row, b in zip(rows.tolist(), bits[rows].tolist(), strict=True)}
