"""The records of sales, a block at a time, from a random stream, the slots and what the market offers."""

from dataclasses import dataclass, field

import numpy as np

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError
from services.generator.faults import FUTURE_US, REJECTED, Fault, Probabilities, corrupt, with_unknown_schema_id
from services.generator.records import (
    NO_FAULTS,
    Column,
    EncodeColumns,
    Evolution,
    Flags,
    Floats,
    Ints,
    ProducerBatch,
    Tally,
)
from services.generator.retailer.amounts import fields
from services.generator.retailer.apparel import PAYMENT_METHODS
from services.generator.retailer.checkout import baskets, purchases
from services.generator.retailer.market import Market
from services.generator.retailer.partitions import StorePartitions
from services.generator.retailer.purchases import RECENT, Purchases, RecentSales, SaleCopy
from services.generator.timing.latency import Latency
from services.generator.timing.schedule import SECOND_US, Slots

#: The most sales of one block.
BLOCK = 4096
#: The largest id of a sale: an int64.
LAST_SALE = 2**63 - 1
_HOUR_US = 3600 * SECOND_US
#: One row of random numbers for each decision about a sale. Their order never changes: it shapes the records.
_DECISIONS = (
    "store", "product", "customer", "quantity", "payment", "discounted", "discount", "tardy", "lateness",
    "return", "purchase", "pieces", "negative", "duplicate", "original", "corrupt", "how", "unknown_schema", "future",
    "too_late", "other_product",
)  # fmt: skip
#: The decisions that the lines of a basket share.
_OF_BASKETS = ("store", "customer", "payment")
#: String field of a sale → its possible values.
VOCABULARIES = {"payment_method": tuple(PAYMENT_METHODS)}


@dataclass
class SalesState:
    """What the sales go on from."""

    tally: Tally = field(default_factory=Tally)
    recent: RecentSales = field(default_factory=RecentSales)


class SalesStream:
    """Makes blocks of sales; the same arguments in the same order make the same records."""

    def __init__(
        self,
        rng: np.random.Generator,
        faults: Probabilities,
        latency: Latency,
        encode: EncodeColumns,
        state: SalesState,
        partitions: int = 1,
        evolution: Evolution[EncodeColumns] | None = None,
    ) -> None:
        """``partitions``: how many the topic has, for silences of one of them."""
        self._rng = rng
        self._faults = faults
        self._latency = latency
        self._encode = encode
        self._evolution = evolution
        self._next = state.tally.next_id
        self._recent = state.recent
        self._stores = StorePartitions(partitions)
        #: product → pieces that the last block took from the stock
        self.sold: dict[int, int] = {}

    def block(self, slots: Slots, market: Market) -> ProducerBatch:
        """Make one record for each slot, in order.

        The random numbers of all decisions are drawn first, so no decision shifts the numbers of another. The order of
        the steps matters, since each one needs what those above it decided::

            purchases     store, products, customer, quantity, event time: a basket has one store, customer and time
                ▼
            returns       some purchases become returns of earlier ones, with event times not before theirs
                ▼
            faults        a return shows in the quantity, lateness in the event time
                ▼
            future times  replace event times whose lateness has been judged
                ▼
            duplicates    are sales of earlier blocks, so they take no new id
                ▼
            fields        ids skip duplicates; discounts and taxes depend on returns and faults
                ▼
            bytes         are encoded, then damaged, then replaced by those of duplicates
                ▼
            recent sales  only valid bytes may be returned or repeated by later blocks
                ▼
            stock         valid sales leave it, returns add to it
                ▼
            marks         a silence ends with the first key of its partition, also if that is a duplicate's

        Raises:
            RetailStreamError: the topic has an id so large that the new sales get none.
        """
        u = dict(zip(_DECISIONS, self._rng.random((len(_DECISIONS), len(slots))), strict=True))
        basket = baskets(slots.basket, len(market.products.ids))
        for name in _OF_BASKETS:
            u[name] = u[name][basket]
        delays = self._latency.delays(u, self._faults)
        sold = purchases(u, slots, basket, delays, market, self._stores)
        self._make_returns(sold, u, slots, basket, market)
        planted = self._planted(u, slots.at_us, sold)
        ahead = slots.at_us + FUTURE_US + SECOND_US + (u["how"] * _HOUR_US).astype(np.int64)
        sold.event_us = np.where(planted[Fault.FUTURE_EVENT_TIME], ahead, sold.event_us)
        duplicates = self._duplicates(u, slots)
        columns = {"transaction_id": self._ids(len(slots), duplicates), **fields(u, sold, planted)}
        batch = self._batch(columns, slots.at_us, planted, u["how"], duplicates)
        good = ~np.any([planted[fault] for fault in REJECTED], axis=0)
        good[list(duplicates)] = False
        self._remember(batch, sold, planted, good)
        pieces = np.where(good, columns["quantity"], 0)
        self.sold = market.products.sell(sold.product, pieces)
        batch.products, batch.pieces = sold.product.tolist(), pieces.tolist()
        self._mark(batch, slots)
        return batch

    def _make_returns(self, sold: Purchases, u: dict[str, Floats], slots: Slots, basket: Ints, market: Market) -> None:
        """Turn some rows, at most one of a basket, into returns of earlier purchases, with negative quantities."""
        wanted = np.flatnonzero(u["return"] < self._faults[Fault.RETURN])
        wanted = wanted[np.unique(basket[wanted], return_index=True)[1]]
        back, bought, pieces = self._recent.returns(
            wanted, u["purchase"][wanted], u["pieces"][wanted], sold.event_us[wanted], slots.at_us[wanted], market
        )
        # A return is no line of the basket that it was drawn for.
        allowed = sold.customer[back] != bought.customer
        if (slots.quiet[back] >= 0).any():
            allowed &= self._stores.partitions(bought.store) != slots.quiet[back]
        rows = np.flatnonzero(allowed)
        back, bought, pieces = back[rows], bought.rows(rows), pieces[rows]
        sold.store[back], sold.customer[back], sold.product[back] = bought.store, bought.customer, bought.product
        sold.price_cents[back], sold.left[back] = bought.price_cents, -pieces
        sold.event_us[back] = bought.event_us

    def _planted(self, u: dict[str, Floats], at: Ints, sold: Purchases) -> dict[Fault, Flags]:
        """Fault → whether each row has it."""
        delay, future = at - sold.event_us, u["future"] < self._faults[Fault.FUTURE_EVENT_TIME]
        return {
            Fault.RETURN: sold.left < 0,
            Fault.NEGATIVE_DISCOUNT: u["negative"] < self._faults[Fault.NEGATIVE_DISCOUNT],
            Fault.FUTURE_EVENT_TIME: future,
            Fault.LATE_EVENT: self._latency.is_late(delay) & ~future,
            Fault.TOO_LATE_EVENT: self._latency.is_too_late(delay) & ~future,
            Fault.UNKNOWN_SCHEMA_ID: u["unknown_schema"] < self._faults[Fault.UNKNOWN_SCHEMA_ID],
            Fault.CORRUPT_BYTES: u["corrupt"] < self._faults[Fault.CORRUPT_BYTES],
        }

    def _ids(self, size: int, duplicates: dict[int, SaleCopy]) -> Ints:
        """New ids; the row of a duplicate takes none."""
        if self._next + size > LAST_SALE:
            raise RetailStreamError(
                f"{topics.raw(Entity.SALES)} has an id close to the largest possible one, {LAST_SALE}, so new sales "
                f"can get none; delete it and {topics.Result.STATE}, and create both again with `retail-stream init`."
            )
        new = np.ones(size, bool)
        new[list(duplicates)] = False
        ids: Ints = self._next + np.cumsum(new) - 1
        self._next += size - len(duplicates)
        return ids

    def _remember(self, batch: ProducerBatch, sold: Purchases, planted: dict[Fault, Flags], good: Flags) -> None:
        """Remember the valid sales: later blocks may return or repeat them."""
        is_return = planted[Fault.RETURN]
        self._recent.add(
            sold.rows(np.flatnonzero(good & ~is_return)),
            [
                SaleCopy(batch.keys[i], batch.values[i] or b"", batch.ids[i], bool(is_return[i]))
                for i in np.flatnonzero(good)[-RECENT:].tolist()
            ],
        )

    def _duplicates(self, u: dict[str, Floats], slots: Slots) -> dict[int, SaleCopy]:
        """Row → the earlier sale that it repeats."""
        duplicates: dict[int, SaleCopy] = {}
        for row in np.flatnonzero(u["duplicate"] < self._faults[Fault.DUPLICATE]).tolist():
            copy = self._recent.copy(u["original"][row])
            if copy is not None and self._stores.partition(copy.key) != slots.quiet[row]:
                duplicates[row] = copy
        return duplicates

    def _batch(
        self,
        columns: dict[str, Column],
        at_us: Ints,
        planted: dict[Fault, Flags],
        how: Floats,
        duplicates: dict[int, SaleCopy],
    ) -> ProducerBatch:
        values: list[bytes | None] = self._encoded(columns, at_us)
        keys = self._stores.keys(columns["store_id"])
        batch = ProducerBatch(keys, values, at_us.tolist(), columns["transaction_id"].tolist(), _labels(planted))
        for row, faults in batch.faults.items():
            value = values[row] or b""
            if Fault.UNKNOWN_SCHEMA_ID in faults:
                value = with_unknown_schema_id(value)
            if Fault.CORRUPT_BYTES in faults:
                value = corrupt(value, float(how[row]))
            values[row] = value
        for row, copy in duplicates.items():
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

    def _mark(self, batch: ProducerBatch, slots: Slots) -> None:
        """Add each burst to its first record, and each silence to the first record after it."""
        ended = self._stores.ended_silences(batch.keys, slots.quiet)
        marks = slots.marks | dict.fromkeys(ended, Fault.SILENCE)
        for row, fault in marks.items():
            batch.faults[row] = (*batch.faults.get(row, NO_FAULTS), fault)
        if marks:
            batch.faults = dict(sorted(batch.faults.items()))


def _labels(planted: dict[Fault, Flags]) -> dict[int, tuple[Fault, ...]]:
    names = tuple(planted)
    bits: Ints = np.sum([where.astype(np.int64) << i for i, where in enumerate(planted.values())], axis=0)
    rows = np.flatnonzero(bits)
    sets = {b: tuple(f for i, f in enumerate(names) if b >> i & 1) for b in np.unique(bits[rows]).tolist()}
    return {row: sets[b] for row, b in zip(rows.tolist(), bits[rows].tolist(), strict=True)}
