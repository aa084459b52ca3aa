"""Sessions: windows that sales of one id make by following each other, within a gap. Pure; columns in, columns out.

A session is [first sale, last sale + gap). Two sales at most the gap apart are in one session: sessions that overlap
or touch are merged. So a sale may extend a session at both ends, or join some::

    gap 10       a@0   b@8            c@25           the sessions [0, 18) and [25, 35)
    then                     d@17                    d is 9 behind b and 8 before c: one session, [0, 35)

A session is known by its id and its start. The earliest start survives a merge. A session that becomes part of
another one loses its row; if it was published, a last revision with the state ``merged`` takes it back: it is empty,
from its start to its start, with zero for each measure.

The state follows from the stream's watermark and the session's end::

    watermark ───▶ end ─────────────▶ end + gap + lateness ────▶
           open     |  fired            |  final
                    |  a sale in time: revision + 1; open again, if the session now ends behind the watermark

A sale is in time while the session that it makes by itself, [time, time + gap), is not past: the watermark before it is
less than time + gap + lateness. That does not depend on the other sales, so a second reading, in other batches, decides
the same. No sale in time is near enough to a session that is final to change it.
"""

import polars as pl

from services.aggregator.lifecycle import WindowState, WindowUpdate
from services.aggregator.totals import END, ID, MEASURES, REVISION, SIZE, START, STATE, WINDOW_KEY
from services.aggregator.watermark import Watermark

_SESSION = "session"


def update_sessions(stored: pl.DataFrame, deltas: pl.DataFrame, watermark: Watermark, lateness: int) -> WindowUpdate:
    """Merge ``deltas`` of a grouping (its ``schema``) into ``stored`` rows (its ``rows``), then fire and finalise.

    ``stored`` holds every row that a delta overlaps or touches, and every row that may be due at the stream's
    ``watermark``; stored rows of an id do not touch each other, nor do deltas. ``lateness``: microseconds. A revision
    of an open row is the one that it will be published with.
    """
    if stored.is_empty() and deltas.is_empty():
        return WindowUpdate(stored, stored, stored)
    new = deltas.with_columns(pl.lit(None, pl.Int32).alias(REVISION), pl.lit(None, pl.String).alias(STATE))
    start, end, state = pl.col(START), pl.col(END), pl.col(STATE)
    parts = pl.concat([stored, new.select(stored.columns)]).sort(ID, START)
    reached = end.cum_max().over(ID)
    begins = (start > reached.shift().over(ID)).fill_null(True)
    parts = parts.with_columns(begins.cum_sum().alias(_SESSION))
    # The stored row that survives has the session's start; the session has no other stored row with that start.
    survives = state.is_not_null() & (start == start.min())
    past = pl.lit(watermark, pl.Int64)
    rows = (
        parts.lazy()
        .group_by(_SESSION)
        .agg(
            pl.col(SIZE, ID).first(),
            start.min(),
            end.max(),
            *(pl.col(m).sum() for m in MEASURES if m in deltas.columns),
            pl.col(REVISION).filter(survives).first().fill_null(0),
            state.filter(survives).first().fill_null(WindowState.OPEN.value).alias("was"),
            state.is_null().any().alias("added"),
        )
        .with_columns(
            (end <= past).fill_null(False).alias("over"),
            (end + pl.col(SIZE) + lateness <= past).fill_null(False).alias("past"),
            (pl.col("added") & (pl.col("was") == WindowState.FIRED.value)).alias("revised"),
        )
        .with_columns(
            (pl.col(REVISION) + pl.col("revised")).cast(pl.Int32).alias(REVISION),
            ((pl.col("added") | (pl.col("was") == WindowState.OPEN.value)) & pl.col("over")).alias("fires"),
            ((pl.col("was") != WindowState.FINAL.value) & pl.col("past")).alias("ends"),
            pl.when("past")
            .then(pl.lit(WindowState.FINAL.value))
            .when("over")
            .then(pl.lit(WindowState.FIRED.value))
            .otherwise(pl.lit(WindowState.OPEN.value))
            .alias(STATE),
        )
        .filter(pl.any_horizontal("added", "fires", "ends"))
        .sort(WINDOW_KEY)
        .collect()
    )
    assert WindowState.FINAL not in rows["was"], "a final row changes"
    columns = stored.columns
    gone = parts.filter(state.is_not_null(), start > start.min().over(_SESSION)).select(columns)
    assert WindowState.FINAL not in gone[STATE], "a final row becomes part of another"
    fired = rows.filter("fires").with_columns(pl.lit(WindowState.FIRED.value).alias(STATE))
    results = pl.concat([fired.select(columns), rows.filter("ends").select(columns), _taken_back(gone)])
    return WindowUpdate(rows[columns], results.sort(WINDOW_KEY, maintain_order=True), gone)


def _taken_back(gone: pl.DataFrame) -> pl.DataFrame:
    """The results that take back those of ``gone`` that were published."""
    was_fired = pl.col(STATE) == WindowState.FIRED.value
    return gone.filter(was_fired | (pl.col(REVISION) > 0)).with_columns(
        (pl.col(REVISION) + was_fired).cast(pl.Int32).alias(REVISION),
        pl.lit(WindowState.MERGED.value).alias(STATE),
        pl.col(START).alias(END),
        *(pl.lit(0, pl.Int64).alias(m) for m in MEASURES if m in gone.columns),
    )
