"""The stream of sales, a block at a time: records, given a random stream, the slots and what the market offers.

Money is counted in whole cents and divided at the end, so that every amount has two decimals.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.generator.apparel import PAYMENT_METHODS, TAX_PERCENT
from services.generator.faults import FUTURE_US, Fault, Probabilities, corrupt, estrange
from services.generator.market import Floats, Ints, Market
from services.generator.purchases import Columns, Copy, Purchases
from services.generator.records import NO_FAULTS, Encoder, Record
from services.generator.schedule import SECOND_US

BLOCK = 1024
#: Without the fault `late_event`, a sale is published within this time, mostly much sooner.
_PROMPT_US = 2 * SECOND_US
_HOUR_US = 3600 * SECOND_US
_METHODS = np.repeat(np.array(list(PAYMENT_METHODS)), list(PAYMENT_METHODS.values()))
#: One row of random numbers for each decision about a sale, in this order for ever: it shapes the records.
_DECISIONS = (
    "store", "product", "customer", "quantity", "payment", "discounted", "discount", "tardy", "lateness",
    "return_", "purchase", "pieces", "negative", "duplicate", "original", "corrupt", "how", "strange", "future",
)  # fmt: skip
_FIELDS = (
    "transaction_id", "store_id", "event_time", "customer_id", "product_id", "quantity", "unit_price",
    "total_amount", "payment_method", "discount_applied", "tax_amount",
)  # fmt: skip


@dataclass
class Tail:
    """What the end of the sales topic says: the next id, how many records, the newest time, and recent sales."""

    next_id: int = 1
    records: int = 0
    newest_us: int = 0
    purchases: Purchases = field(default_factory=Purchases)


class SalesStream:
    """Makes blocks of sales; the same arguments in the same order make the same records."""

    def __init__(
        self,
        rng: np.random.Generator,
        faults: Probabilities,
        latency_max_us: int,
        encode: Encoder,
        tail: Tail,
    ) -> None:
        self._rng = rng
        self._faults = faults
        self._latency_max = latency_max_us
        self._encode = encode
        self._next = tail.next_id
        self._recent = tail.purchases

    def block(self, slots: list[int], market: Market) -> list[Record]:
        """One record for each slot, in order."""
        size = len(slots)
        u = dict(zip(_DECISIONS, self._rng.random((len(_DECISIONS), size)), strict=True))
        at = np.array(slots, np.int64)
        store, customer = market.stores.popular(u["store"]), market.customers.evenly(u["customer"])
        product = market.products.popular(u["product"])
        price = market.products.prices[product]
        quantity = 1 + (u["quantity"] ** 4 * 5).astype(np.int64)
        event = at - self._delay(u)

        wanted = np.flatnonzero(u["return_"] < self._faults[Fault.RETURN])
        back, bought, pieces = self._recent.bring_back(wanted, u["purchase"][wanted], u["pieces"][wanted], market)
        store[back], customer[back], product[back] = bought.store, bought.customer, bought.product
        price[back], quantity[back] = bought.price_cents, -pieces
        event[back] = np.maximum(event[back], bought.event_us)

        total = quantity * price
        is_return = quantity < 0
        discount = np.where((u["discounted"] < 0.2) & ~is_return, _percent(total, 5 + u["discount"] * 25), 0)
        negative = u["negative"] < self._faults[Fault.NEGATIVE_DISCOUNT]
        discount = np.where(negative, -1 - _percent(np.abs(total), u["discount"] * 20), discount)
        tax = _percent(total - np.maximum(discount, 0), np.full(size, TAX_PERCENT))
        late = at - event > _PROMPT_US
        future = u["future"] < self._faults[Fault.FUTURE_EVENT_TIME]
        event = np.where(future, at + FUTURE_US + SECOND_US + (u["how"] * _HOUR_US).astype(np.int64), event)

        copies = [
            self._recent.copy(u["original"][i]) if again else None
            for i, again in enumerate(u["duplicate"] < self._faults[Fault.DUPLICATE])
        ]
        again = np.array([c is not None for c in copies], bool)
        numbers = self._next + np.cumsum(~again) - 1
        self._next += size - int(again.sum())

        faults = _labels(
            size,
            {
                Fault.RETURN: is_return,
                Fault.NEGATIVE_DISCOUNT: negative,
                Fault.FUTURE_EVENT_TIME: future,
                Fault.LATE_EVENT: late & ~future,
                Fault.UNKNOWN_SCHEMA_ID: u["strange"] < self._faults[Fault.UNKNOWN_SCHEMA_ID],
                Fault.CORRUPT_BYTES: u["corrupt"] < self._faults[Fault.CORRUPT_BYTES],
            },
        )
        payment = _METHODS[(u["payment"] * len(_METHODS)).astype(np.int64)]
        columns = (
            numbers, store, event, customer, product, quantity, price / 100.0, total / 100.0, payment,
            discount / 100.0, tax / 100.0,
        )  # fmt: skip
        records = [
            self._record(row, slot, planted, how)
            if copy is None
            else Record(copy.key, copy.value, slot, copy.id, (Fault.DUPLICATE,))
            for *row, slot, planted, how, copy in zip(
                *(c.tolist() for c in columns), slots, faults, u["how"].tolist(), copies, strict=True
            )
        ]
        sound = ~(again | negative | future) & np.array([Fault.CORRUPT_BYTES not in f for f in faults], bool)
        sound &= np.array([Fault.UNKNOWN_SCHEMA_ID not in f for f in faults], bool)
        bought = Columns(store, customer, product, price, quantity, event).rows(np.flatnonzero(sound & ~is_return))
        self._recent.add(bought, [Copy(r.key, r.value or b"", r.id) for r, s in zip(records, sound, strict=True) if s])
        return records

    def _delay(self, u: dict[str, Floats]) -> Ints:
        prompt = min(_PROMPT_US, self._latency_max)
        delay = u["lateness"] ** 4 * prompt
        tardy = prompt + 1 + u["lateness"] * (self._latency_max - prompt - 1)
        is_tardy = (u["tardy"] < self._faults[Fault.LATE_EVENT]) & (self._latency_max > prompt)
        return np.where(is_tardy, tardy, delay).astype(np.int64)

    def _record(self, row: list[Any], at_us: int, faults: tuple[Fault, ...], how: float) -> Record:
        value = self._encode(dict(zip(_FIELDS, row, strict=True)))
        if Fault.UNKNOWN_SCHEMA_ID in faults:
            value = estrange(value)
        if Fault.CORRUPT_BYTES in faults:
            value = corrupt(value, how)
        return Record(b"%d" % row[1], value, at_us, row[0], faults)


def _percent(cents: Ints, percent: Floats) -> Ints:
    return np.rint(cents * percent / 100).astype(np.int64)


def _labels(size: int, planted: dict[Fault, np.ndarray]) -> list[tuple[Fault, ...]]:
    labels = [NO_FAULTS] * size
    for fault, where in planted.items():
        for i in np.flatnonzero(where).tolist():
            labels[i] = (*labels[i], fault)
    return labels
