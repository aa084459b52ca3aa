"""What the topics already hold, as the state to go on from. Pure: from the records found there to state."""

import polars as pl

from retail_stream.avro.decode import ROW, Decoded
from retail_stream.entities import FIELDS, Entity
from services.generator.retailer.arrays import Ints
from services.generator.retailer.dimension import State
from services.generator.retailer.purchases import RECENT, Columns, Copy, Purchases
from services.generator.retailer.sales import Tail
from services.generator.state.found import Found

#: What some pieces of it at this price cost is an amount that the cleaner takes, and so is what is brought back.
_PRICE, _TOTAL = 1e8, 1e9
#: Ids of sales beyond this are another source's; only where they are right do they have to be passed.
_OTHERS = 2**62


def fold(state: State, entity: Entity, found: Found) -> State:
    """Take records of a dimension into ``state``: per id its newest row, and what was deleted.

    What the cleaner refuses does not count: a new id is published by a record that is right.
    """
    key, time = FIELDS[entity].key, FIELDS[entity].time
    state.records += len(found.keys)
    state.newest_us = max(state.newest_us, found.newest_us)
    rows, deleted = found.sound(entity), set(found.deletes())
    state.deleted |= deleted
    for number in deleted:
        state.rows.pop(number, None)
    state.next_id = max([state.next_id, *(n + 1 for n in deleted), *(n + 1 for n in rows[key])])
    if entity is Entity.PRODUCTS:
        rows = rows.filter(pl.col("price").is_between(0, _PRICE))
    newest = rows.drop(ROW).sort(time, maintain_order=True).unique(key, keep="last")
    for row in newest.iter_rows(named=True):
        before = state.rows.get(row[key])
        if row[key] not in state.deleted and (before is None or before[time] <= row[time]):
            state.rows[row[key]] = row
    return state


def conclusive(found: Decoded) -> bool:
    """Whether records at the end of a partition of sales are enough to know the largest id that was given in it.

    They are once a new sale is among them. A sale that is published again is one of the last :data:`RECENT` sales, so
    more ids than that are not all old ones; records that cannot be read say nothing.
    """
    return found.table["transaction_id"].n_unique() > RECENT


def tail(found: Found) -> Tail:
    """What the last records of all partitions say, each either conclusive or all that the partition has.

    A record that cannot be read may hold an id beyond the largest that can, so each such record is one id more.
    """
    sound = found.sound(Entity.SALES)
    rows = found.decoded.table
    told = rows.filter((pl.col("transaction_id") < _OTHERS) | pl.col(ROW).is_in(sound[ROW].implode()))
    largest = max([0, *told["transaction_id"]])
    recent = sound.unique("transaction_id", keep="first").sort("transaction_id")
    copies = [
        Copy(found.keys[i] or b"", found.values[i] or b"", number, quantity < 0)
        for i, number, quantity in recent.select(ROW, "transaction_id", "quantity").iter_rows()
    ]
    total = pl.col("quantity") * pl.col("unit_price")
    bought = recent.filter(pl.col("quantity") > 0, pl.col("unit_price") >= 0, total < _TOTAL)
    cents = (bought["unit_price"] * 100).round().cast(pl.Int64)
    purchases = Purchases()
    columns = Columns(
        store=_array(bought["store_id"]),
        customer=_array(bought["customer_id"]),
        product=_array(bought["product_id"]),
        price_cents=_array(cents),
        left=_array(bought["quantity"]),
        event_us=_array(bought["event_time"]),
    )
    purchases.add(columns, copies)
    return Tail(largest + len(found.keys) - told.height + 1, found.newest_us, purchases)


def _array(column: pl.Series) -> Ints:
    return column.cast(pl.Int64).to_numpy().copy()
