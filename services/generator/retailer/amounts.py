"""The fields of a sale except its id. Money is counted in cents and divided at the end, so it has two decimals."""

from collections.abc import Mapping

import numpy as np

from services.generator.faults import Fault
from services.generator.records import Column, Flags, Floats, Ints
from services.generator.retailer.apparel import PAYMENT_METHODS, TAX_PERCENT
from services.generator.retailer.purchases import Purchases

#: The payment methods of a hundred sales, as numbers of the vocabulary.
_METHODS = np.repeat(np.arange(len(PAYMENT_METHODS)), list(PAYMENT_METHODS.values()))


def fields(u: Mapping[str, Floats], sold: Purchases, planted: Mapping[Fault, Flags]) -> dict[str, Column]:
    """The columns of sales. ``u``: decision → random numbers in [0, 1); ``planted``: fault → the rows that have it."""
    total = sold.left * sold.price_cents
    discounted = (u["discounted"] < 0.2) & ~planted[Fault.RETURN]
    discount = np.where(discounted, _percent(total, 5 + u["discount"] * 25), 0)
    less = -1 - _percent(np.abs(total), u["discount"] * 20)
    discount = np.where(planted[Fault.NEGATIVE_DISCOUNT], less, discount)
    tax = _percent(total - np.maximum(discount, 0), np.full(len(total), TAX_PERCENT))
    return {
        "store_id": sold.store,
        "event_time": sold.event_us,
        "customer_id": sold.customer,
        "product_id": sold.product,
        "quantity": sold.left,
        "unit_price": sold.price_cents / 100.0,
        "total_amount": total / 100.0,
        "payment_method": _METHODS[(u["payment"] * len(_METHODS)).astype(np.int64)],
        "discount_applied": discount / 100.0,
        "tax_amount": tax / 100.0,
    }


def _percent(cents: Ints, percent: Floats) -> Ints:
    part: Ints = np.rint(cents * percent / 100).astype(np.int64)
    return part
