"""The state to go on from. Pure: the records of the topics become the state of dimensions and of sales."""

import polars as pl

from retail_stream.avro.decoder import ROW, Decoded
from retail_stream.entities import FIELDS, Entity
from services.generator.records import Ints
from services.generator.retailer.dimension import DimensionState
from services.generator.retailer.purchases import RECENT, Purchases, RecentSales, SaleCopy
from services.generator.retailer.sales import SalesState
from services.generator.state.published import PublishedRecords

#: Limits of a price and of an amount that keep the amounts of later sales and returns valid.
_PRICE, _TOTAL = 1e8, 1e9
#: The generator never comes to larger ids of sales. Those of other sources count only where the record is valid.
_OTHERS = 2**62


def fold(state: DimensionState, entity: Entity, records: PublishedRecords) -> DimensionState:
    """Add records of a dimension to ``state``, and return it: per id the newest row, and the deleted ids.

    Invalid records count only as records, since every id of ours is first published by a valid one.
    """
    key, time = FIELDS[entity].key, FIELDS[entity].time
    state.records += len(records.keys)
    state.newest_us = max(state.newest_us, records.newest_us)
    rows, deleted = records.valid(entity), set(records.deleted_ids())
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


def conclusive(decoded: Decoded) -> bool:
    """Whether these records, at the end of a partition of sales, contain a new sale.

    Then they show the largest id of the partition. A duplicate repeats one of the last :data:`RECENT` sales, so more
    than :data:`RECENT` different ids are not all duplicates. Unreadable records show nothing.
    """
    return decoded.table["transaction_id"].n_unique() > RECENT


def sales_state(records: PublishedRecords) -> SalesState:
    """The state after the last records of all partitions. Each partition is conclusive or complete.

    An unreadable record may have any id that the generator gave next, so each one adds one to the next id.
    """
    valid = records.valid(Entity.SALES)
    rows = records.decoded.numbered
    counted = rows.filter((pl.col("transaction_id") < _OTHERS) | pl.col(ROW).is_in(valid[ROW].implode()))
    largest = max([0, *counted["transaction_id"]])
    recent = valid.unique("transaction_id", keep="first").sort("transaction_id")
    copies = [
        SaleCopy(records.keys[i] or b"", records.values[i] or b"", number, quantity < 0)
        for i, number, quantity in recent.select(ROW, "transaction_id", "quantity").iter_rows()
    ]
    total = pl.col("quantity") * pl.col("unit_price")
    bought = recent.filter(pl.col("quantity") > 0, pl.col("unit_price") >= 0, total < _TOTAL)
    cents = (bought["unit_price"] * 100).round().cast(pl.Int64)
    purchases = Purchases(
        store=_array(bought["store_id"]),
        customer=_array(bought["customer_id"]),
        product=_array(bought["product_id"]),
        price_cents=_array(cents),
        left=_array(bought["quantity"]),
        event_us=_array(bought["event_time"]),
    )
    sales = RecentSales()
    sales.add(purchases, copies)
    return SalesState(largest + len(records.keys) - counted.height + 1, records.newest_us, sales)


def _array(column: pl.Series) -> Ints:
    return column.cast(pl.Int64).to_numpy().copy()
