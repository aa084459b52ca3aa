"""Totals of sales, exact in integer cents, for each window and store or product."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Final

import polars as pl

from services.aggregator.windows import Window

COUNTS: Final = ("transactions", "units_sold", "units_returned")
CENTS: Final = ("gross_sales", "returns_amount", "discounts", "taxes")
MEASURES: Final = (*COUNTS, *CENTS)
#: The two kinds of totals: kind → the column of a sale that holds the id.
KINDS: Final[Mapping[str, str]] = {"product": "product_id", "store": "store_id"}
KIND_TYPE: Final = pl.Enum(list(KINDS))
KIND: Final = "kind"
SIZE: Final = "size"
START: Final = "start"
ID: Final = "id"
WINDOW_KEY: Final = (KIND, SIZE, START, ID)
SCHEMA: Final[dict[str, pl.DataType]] = {
    KIND: KIND_TYPE,
    SIZE: pl.Int64(),
    START: pl.Int64(),
    ID: pl.Int32(),
    **dict.fromkeys(MEASURES, pl.Int64()),
}


def cents(amount: str) -> pl.Expr:
    """A column of doubles as integer cents: the IEEE double product amount x 100, rounded half to even."""
    return (pl.col(amount) * 100.0).round(0, mode="half_to_even").cast(pl.Int64)


def measured(rows: pl.DataFrame) -> pl.DataFrame:
    """Replace the quantity and amounts of each sale by the measures that it adds.

    A negative quantity is a return. Discounts and taxes keep their sign, of sales and returns alike.
    """
    returned = pl.col("quantity") < 0
    units = pl.col("quantity").cast(pl.Int64)
    total = cents("total_amount")
    return rows.select(
        pl.exclude("quantity", "unit_price", "total_amount", "discount_applied", "tax_amount"),
        pl.lit(1, pl.Int64).alias("transactions"),
        pl.when(returned).then(0).otherwise(units).alias("units_sold"),
        pl.when(returned).then(-units).otherwise(0).alias("units_returned"),
        pl.when(returned).then(0).otherwise(total).alias("gross_sales"),
        pl.when(returned).then(-total).otherwise(0).alias("returns_amount"),
        cents("discount_applied").alias("discounts"),
        cents("tax_amount").alias("taxes"),
    )


def per_window(sales: pl.DataFrame, windows: Iterable[Window], lateness: int) -> pl.DataFrame:
    """Sum measured sales for each window that they are in time for, per store and per product.

    Returns one row for each (kind, size, start, id), sorted by them, with the columns of SCHEMA.
    """
    sums = [pl.col(m).sum() for m in MEASURES]
    frames = [pl.LazyFrame(schema=SCHEMA)]
    for window, (kind, id_column) in product(windows, KINDS.items()):
        panes = (
            sales.lazy()
            .group_by(window.pane().alias(START), window.missed(lateness).alias("missed"), pl.col(id_column).alias(ID))
            .agg(sums)
            .filter(pl.col("missed") < window.panes)
        )
        # The sums of a pane go to each window over it that is not missed; a row here is the sum of many sales.
        if window.panes > 1:
            numbers = pl.int_ranges(pl.col("missed") + 1, window.panes + 1)
            start = pl.col(START) + pl.col("number") * window.slide - window.size
            panes = panes.with_columns(numbers.alias("number")).explode("number").with_columns(start)
        kind_and_size = (pl.lit(kind, KIND_TYPE).alias(KIND), pl.lit(window.size, pl.Int64).alias(SIZE))
        frames.append(panes.select(*kind_and_size, START, ID, *MEASURES))
    return pl.concat(frames).group_by(WINDOW_KEY).agg(sums).sort(WINDOW_KEY).collect()
