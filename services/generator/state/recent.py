"""The recent sales to go on from: those at the end of the topic that customers may return or a source repeats. Pure."""

import polars as pl

from retail_stream.avro.decoder import ROW
from retail_stream.entities import Entity
from services.generator.records import Ints
from services.generator.retailer.purchases import Purchases, RecentSales, SaleCopy
from services.generator.state.published import PublishedRecords

#: Limit of an amount that keeps the amounts of later returns valid.
_TOTAL = 1e9


def recent_sales(records: PublishedRecords) -> RecentSales:
    """The valid sales among records of all partitions, in order of their ids."""
    valid = records.valid(Entity.SALES).unique("transaction_id", keep="first").sort("transaction_id")
    copies = [
        SaleCopy(records.keys[i] or b"", records.values[i] or b"", number, quantity < 0)
        for i, number, quantity in valid.select(ROW, "transaction_id", "quantity").iter_rows()
    ]
    total = pl.col("quantity") * pl.col("unit_price")
    bought = valid.filter(pl.col("quantity") > 0, pl.col("unit_price") >= 0, total < _TOTAL)
    purchases = Purchases(
        store=_array(bought["store_id"]),
        customer=_array(bought["customer_id"]),
        product=_array(bought["product_id"]),
        price_cents=_array((bought["unit_price"] * 100).round()),
        left=_array(bought["quantity"]),
        event_us=_array(bought["event_time"]),
    )
    sales = RecentSales()
    sales.add(purchases, copies)
    return sales


def _array(column: pl.Series) -> Ints:
    return column.cast(pl.Int64).to_numpy().copy()
