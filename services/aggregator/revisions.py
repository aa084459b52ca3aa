"""Every revision of every window as a row of `window_revisions`, by COPY."""

import polars as pl
from sqlalchemy import Connection

from retail_stream.warehouse import postgres
from services.aggregator.declared import CENTS, COUNTS
from services.aggregator.lifecycle import WindowState
from services.aggregator.totals import END, ID, REVISION, SIZE, START, STATE, Grouping

_COLUMNS = (
    # An interval in Postgres.
    (pl.col(SIZE).cast(pl.String) + " us").alias("window_size"),
    pl.col(START).alias("window_start"),
    pl.col(ID).cast(pl.String),
    REVISION,
)
_TIMES = ("window_start", "window_end", "published_at")


def store(connection: Connection, grouping: Grouping, results: pl.DataFrame, now: int) -> None:
    """Insert the results that a firing, a revision or a merge made: a final one repeats the sums of the last.

    ``results``: of a :class:`lifecycle.WindowUpdate` of the grouping; ``now``: microseconds. Measures that the grouping
    does not have are NULL.
    """
    fired = results.filter(pl.col(STATE) != WindowState.FINAL.value)
    if fired.is_empty():
        return
    counts = (m for m in COUNTS if m in grouping.measures)
    # As text: a double has too few digits for a sum.
    money = (_amount(c) for c in CENTS if c in grouping.measures)
    end = (pl.col(END) if grouping.is_session else pl.col(START) + pl.col(SIZE)).alias("window_end")
    kind, published = pl.lit(grouping.name).alias("kind"), pl.lit(now, pl.Int64).alias("published_at")
    postgres.copy(
        connection, "window_revisions", fired.select(kind, *_COLUMNS, end, *counts, *money, published), times=_TIMES
    )


def _amount(cents: str) -> pl.Expr:
    """Integer cents as a number that Postgres reads exactly: 12345 is 12345e-2."""
    return (pl.col(cents).cast(pl.String) + "e-2").alias(cents)
