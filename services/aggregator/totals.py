"""Totals of sales, exact in integer cents, for each window and what they are grouped by: a store, a product, …"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from services.aggregator.declared import CENTS, COUNTS, Aggregation
from services.aggregator.windows import Window

#: What is summed; the table's ``net_sales`` follows from it.
MEASURES: Final = (*COUNTS, *CENTS)
SIZE: Final = "size"
START: Final = "start"
#: Only of sessions: where they end, exclusive.
END: Final = "end"
ID: Final = "id"
WINDOW_KEY: Final = (SIZE, START, ID)
REVISION: Final = "revision"
STATE: Final = "state"
#: Of a text so many characters are its key: an index of Postgres holds no longer ones.
KEY_CHARACTERS: Final = 500
_DTYPES: Final[Mapping[str, pl.DataType]] = {"int": pl.Int32(), "long": pl.Int64(), "string": pl.String()}


@dataclass(frozen=True)
class Grouping:
    """An entry of `schemas/windows.toml` with its windows."""

    declared: Aggregation
    windows: tuple[Window, ...]

    @property
    def name(self) -> str:
        """The ``kind`` of its records on `sales.windows`."""
        return self.declared.name

    @property
    def measures(self) -> tuple[str, ...]:
        """Those of MEASURES that it sums."""
        return tuple(m for m in MEASURES if m in self.declared.measures)

    @property
    def is_text(self) -> bool:
        """Whether its ids are texts."""
        return self.declared.holds == "string"

    @property
    def is_session(self) -> bool:
        """Whether its windows are sessions."""
        return bool(self.declared.session)

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """The columns of its sums."""
        ids = {SIZE: pl.Int64(), START: pl.Int64(), ID: _DTYPES[self.declared.holds]}
        end = {END: pl.Int64()} if self.is_session else {}
        return {**ids, **dict.fromkeys(self.measures, pl.Int64()), **end}

    @cached_property
    def rows(self) -> dict[str, pl.DataType]:
        """The columns of its stored rows."""
        return {**self.schema, REVISION: pl.Int32(), STATE: pl.String()}

    def id(self) -> pl.Expr:
        """The id of a sale."""
        column = pl.col(self.declared.by)
        return column.str.slice(0, KEY_CHARACTERS) if self.is_text else column


def cents(amount: str) -> pl.Expr:
    """A column of doubles as integer cents: the IEEE double product amount x 100, rounded half to even."""
    return (pl.col(amount) * 100.0).round(0, mode="half_to_even").cast(pl.Int64)


def measured(rows: pl.DataFrame) -> pl.DataFrame:
    """Replace the amounts of each sale by the measures that it adds.

    A negative quantity is a return. Discounts and taxes keep their sign, of sales and returns alike.
    """
    returned = pl.col("quantity") < 0
    units = pl.col("quantity").cast(pl.Int64)
    total = cents("total_amount")
    return rows.select(
        pl.exclude("unit_price", "total_amount", "discount_applied", "tax_amount"),
        pl.lit(1, pl.Int64).alias("transactions"),
        pl.when(returned).then(0).otherwise(units).alias("units_sold"),
        pl.when(returned).then(-units).otherwise(0).alias("units_returned"),
        pl.when(returned).then(0).otherwise(total).alias("gross_sales"),
        pl.when(returned).then(-total).otherwise(0).alias("returns_amount"),
        cents("discount_applied").alias("discounts"),
        cents("tax_amount").alias("taxes"),
    )


def per_window(sales: pl.DataFrame, groupings: Sequence[Grouping], lateness: int) -> dict[str, pl.DataFrame]:
    """Sum measured sales for each window that they are in time for, per grouping; by the grouping's name.

    Each frame has one row for each (size, start, id), sorted by them, with the columns of its ``schema``.
    """
    sums = pl.collect_all([(_sessions if g.is_session else _sums)(sales.lazy(), g, lateness) for g in groupings])
    return {g.name: frame for g, frame in zip(groupings, sums, strict=True)}


def no_sums(groupings: Iterable[Grouping]) -> dict[str, pl.DataFrame]:
    """The sums of no sale."""
    return {g.name: pl.DataFrame(schema=g.schema) for g in groupings}


def _sums(sales: pl.LazyFrame, grouping: Grouping, lateness: int) -> pl.LazyFrame:
    sums = [pl.col(m).sum() for m in grouping.measures]
    frames = []
    for window in grouping.windows:
        pane, missed = window.pane().alias(START), window.missed(lateness).alias("missed")
        of_sale = sales.select(pane, missed, grouping.id().alias(ID), *grouping.measures)
        in_time = of_sale.filter(pl.col("missed") < window.panes)
        # The sums of a pane go to each window over it that is not missed; a row here is the sum of many sales.
        if window.panes > 1:
            numbers = pl.int_ranges(pl.col("missed") + 1, window.panes + 1)
            start = pl.col(START) + pl.col("number") * window.slide - window.size
            panes = in_time.group_by(START, "missed", ID).agg(sums)
            in_time = panes.with_columns(numbers.alias("number")).explode("number").with_columns(start)
        frames.append(in_time.group_by(START, ID).agg(sums).with_columns(pl.lit(window.size, pl.Int64).alias(SIZE)))
    return pl.concat(frames).select(*grouping.schema).sort(WINDOW_KEY)


def _sessions(sales: pl.LazyFrame, grouping: Grouping, lateness: int) -> pl.LazyFrame:
    """The sessions that these sales make by themselves."""
    (window,) = grouping.windows
    time, item = pl.col("event_time"), pl.col(ID)
    # Of the first row there is nothing before it.
    begins = ((item != item.shift()) | (time - time.shift() > window.size)).fill_null(True)
    return (
        sales.filter(window.missed(lateness) == 0)
        .select("event_time", grouping.id().alias(ID), *grouping.measures)
        .sort(ID, "event_time")
        .group_by(begins.cum_sum().alias("session"))
        .agg(
            item.first(),
            time.first().alias(START),
            time.last().alias(END) + window.size,
            *(pl.col(m).sum() for m in grouping.measures),
        )
        .with_columns(pl.lit(window.size, pl.Int64).alias(SIZE))
        .select(*grouping.schema)
        .sort(WINDOW_KEY)
    )
