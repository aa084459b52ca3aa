"""The life of a window's row: open → fired → (revised …) → final.

             end                    end + lateness
… open ……… | fired, revision 0 …… | final, never changes again
stream's watermark ─────▶            (a sale in time adds 1 to the revision of a fired row)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import polars as pl

from services.aggregator.totals import KIND, MEASURES, SCHEMA, SIZE, START, WINDOW_KEY
from services.aggregator.watermark import Watermark

REVISION: Final = "revision"
STATE: Final = "state"


class State(StrEnum):
    """States of a window."""

    OPEN = "open"
    FIRED = "fired"
    FINAL = "final"


class Outcome(StrEnum):
    """What a result says of its window."""

    FIRED = "fired"
    REVISED = "revised"
    FINAL = "final"


ROWS: Final = {**SCHEMA, REVISION: pl.Int32(), STATE: pl.String()}


@dataclass(frozen=True)
class Settled:
    """Frames with the columns of ROWS, in key order: ``rows`` are to be written, ``results`` are for `sales.windows`.

    A row that fires and becomes final at once is twice in ``results``, fired first.
    """

    rows: pl.DataFrame
    results: pl.DataFrame


def settle(stored: pl.DataFrame, deltas: pl.DataFrame, watermark: Watermark, lateness: int) -> Settled:
    """Add ``deltas`` (as totals.SCHEMA) to the ``stored`` rows (ROWS) and let the stream's ``watermark`` act on them.

    ``stored`` holds every row that a delta is for and every row that may be due; none of those a delta is for is
    final, because a partition's watermark is never behind the stream's where its records are judged.
    """
    if stored.is_empty() and deltas.is_empty():
        return Settled(stored, stored)
    new = deltas.lazy().with_columns(pl.lit(None, pl.Int32).alias(REVISION), pl.lit(None, pl.String).alias(STATE))
    past = pl.lit(watermark, pl.Int64)
    end = pl.col(START) + pl.col(SIZE)
    was_open, was_fired, was_final = (pl.col("was") == s for s in (State.OPEN, State.FIRED, State.FINAL))
    # A key has one stored row at most and one delta at most, and only the stored one has a state.
    rows = (
        pl.concat([stored.lazy(), new])
        .group_by(WINDOW_KEY)
        .agg(
            *(pl.col(m).sum() for m in MEASURES),
            pl.col(REVISION).max().fill_null(0),
            pl.col(STATE).max().fill_null(State.OPEN.value).alias("was"),
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
            .then(pl.lit(State.FINAL.value))
            .when("fires")
            .then(pl.lit(State.FIRED.value))
            .otherwise("was")
            .alias(STATE),
        )
        .filter(pl.any_horizontal("added", "fires", "ends"))
        .sort(WINDOW_KEY)
        .collect()
    )
    assert State.FINAL not in rows["was"], "a final row changes"
    fired = rows.filter(rows["revised"] | rows["fires"]).with_columns(pl.lit(State.FIRED.value).alias(STATE))
    results = pl.concat([fired, rows.filter(rows["ends"])]).sort(WINDOW_KEY, maintain_order=True)
    return Settled(rows.select(*ROWS), results.select(*ROWS))


def outcomes(results: pl.DataFrame) -> Mapping[tuple[str, Outcome], int]:
    """How many of the ``results`` of :class:`Settled` there are, by kind and what they say."""
    if results.is_empty():
        return {}
    what = (
        pl.when(pl.col(STATE) == State.FINAL.value)
        .then(pl.lit(Outcome.FINAL.value))
        .when(pl.col(REVISION) > 0)
        .then(pl.lit(Outcome.REVISED.value))
        .otherwise(pl.lit(Outcome.FIRED.value))
    )
    counted = results.group_by(pl.col(KIND).cast(pl.String), what.alias("what")).len()
    return {(kind, Outcome(outcome)): number for kind, outcome, number in counted.rows()}
