"""The life of a window's row: open → fired → (revised …) → final.

stream's watermark ────▶ end ──────────────────▶ end + lateness ─────▶
                  open    |  fired, revision 0      |  final: never changes again
                          |  a sale in time: revision + 1
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl

from services.aggregator.totals import MEASURES, REVISION, SIZE, START, STATE, WINDOW_KEY
from services.aggregator.watermark import Watermark


class WindowState(StrEnum):
    """The state of a window's row, or of a result: only a result is merged."""

    OPEN = "open"
    FIRED = "fired"
    FINAL = "final"
    MERGED = "merged"


class Outcome(StrEnum):
    """The kinds of results: a window fires, is revised, becomes final; a session becomes part of an earlier one."""

    FIRED = "fired"
    REVISED = "revised"
    FINAL = "final"
    MERGED = "merged"


@dataclass(frozen=True)
class WindowUpdate:
    """``rows`` to be written, and ``results`` for `sales.windows`; in key order, as :attr:`totals.Grouping.rows`.

    A row that fires and becomes final at once is twice in ``results``, fired first. ``gone``: the rows to be deleted,
    which only sessions have.
    """

    rows: pl.DataFrame
    results: pl.DataFrame
    gone: pl.DataFrame = field(default_factory=pl.DataFrame)


def update_windows(stored: pl.DataFrame, deltas: pl.DataFrame, watermark: Watermark, lateness: int) -> WindowUpdate:
    """Add ``deltas`` of a grouping (its ``schema``) to ``stored`` rows (its ``rows``), then fire and finalise.

    ``stored`` holds every row that a delta is for and every row that may be due at the stream's ``watermark``. No delta
    is for a final row: a partition's watermark is never behind the stream's when its records are judged.
    ``lateness``: microseconds.
    """
    if stored.is_empty() and deltas.is_empty():
        return WindowUpdate(stored, stored)
    new = deltas.lazy().with_columns(pl.lit(None, pl.Int32).alias(REVISION), pl.lit(None, pl.String).alias(STATE))
    past = pl.lit(watermark, pl.Int64)
    end = pl.col(START) + pl.col(SIZE)
    was_open, was_fired, was_final = (
        pl.col("was") == s for s in (WindowState.OPEN, WindowState.FIRED, WindowState.FINAL)
    )
    # A key has one stored row at most and one delta at most, and only the stored one has a state.
    rows = (
        pl.concat([stored.lazy(), new])
        .group_by(WINDOW_KEY)
        .agg(
            *(pl.col(m).sum() for m in MEASURES if m in deltas.columns),
            pl.col(REVISION).max().fill_null(0),
            pl.col(STATE).max().fill_null(WindowState.OPEN.value).alias("was"),
            pl.col(STATE).is_null().any().alias("added"),
        )
        .with_columns(
            (pl.col("added") & was_fired).alias("revised"),
            (was_open & (end <= past)).fill_null(False).alias("fires"),
            (~was_final & (end + lateness <= past)).fill_null(False).alias("ends"),
        )
        .with_columns(
            (pl.col(REVISION) + pl.col("revised")).cast(pl.Int32).alias(REVISION),
            pl.when("ends")
            .then(pl.lit(WindowState.FINAL.value))
            .when("fires")
            .then(pl.lit(WindowState.FIRED.value))
            .otherwise("was")
            .alias(STATE),
        )
        .filter(pl.any_horizontal("added", "fires", "ends"))
        .sort(WINDOW_KEY)
        .collect()
    )
    assert WindowState.FINAL not in rows["was"], "a final row changes"
    columns = stored.columns
    if not (rows["revised"] | rows["fires"] | rows["ends"]).any():
        return WindowUpdate(rows[columns], stored.clear())
    fired = rows.filter(rows["revised"] | rows["fires"]).with_columns(pl.lit(WindowState.FIRED.value).alias(STATE))
    results = pl.concat([fired, rows.filter(rows["ends"])]).sort(WINDOW_KEY, maintain_order=True)
    return WindowUpdate(rows[columns], results[columns])


def outcomes(results: pl.DataFrame) -> Mapping[Outcome, int]:
    """Count the ``results`` of a :class:`WindowUpdate`."""
    if results.is_empty():
        return {}
    outcome = (
        pl.when(pl.col(STATE).is_in([WindowState.FINAL.value, WindowState.MERGED.value]))
        .then(STATE)
        .when(pl.col(REVISION) > 0)
        .then(pl.lit(Outcome.REVISED.value))
        .otherwise(pl.lit(Outcome.FIRED.value))
    )
    return {Outcome(name): number for name, number in results.group_by(outcome.alias("outcome")).len().rows()}
