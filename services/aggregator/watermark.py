"""Watermarks: how far event time has come, per partition and for the stream.

    seen      min(event_time, record timestamp)
    before    the largest seen in earlier records, less the delay: decides whether this record is late
    stream    the smallest of the partitions that are not idle

Times are int64 microseconds since 1970-01-01 UTC; None is minus infinity, before the first record.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from retail_stream.kafka.batches import OFFSET, TIMESTAMP

Watermark = int | None

BEFORE = "watermark_before"
_NONE = np.iinfo(np.int64).min
#: Between two looks at an idle stream at most so many microseconds are added; a longer gap adds nothing.
LONGEST_LOOK_AWAY = 10_000_000


@dataclass(frozen=True)
class Rise:
    """A rise of a partition's watermark that its own records did not cause, from ``next_offset`` (inclusive) on."""

    partition: int
    next_offset: int
    watermark: int


@dataclass(frozen=True)
class Stream:
    """The watermark of the stream.

    ``advanced_at``: while all partitions are idle, the time up to which it has followed real time; else None.
    """

    watermark: Watermark = None
    advanced_at: int | None = None


def later(*watermarks: Watermark) -> Watermark:
    """The largest watermark; None if all are None."""
    return max((w for w in watermarks if w is not None), default=None)


def at_or_past(watermark: Watermark, time: int) -> bool:
    """Whether event time has reached ``time`` (inclusive)."""
    return watermark is not None and watermark >= time


def judge_by(
    rows: pl.DataFrame, watermark: Watermark, delay: int, rises: Iterable[Rise] = ()
) -> tuple[pl.DataFrame, Watermark]:
    """Add to each record of one partition the watermark before it (column BEFORE, null: none yet).

    ``rows`` are in offset order; ``watermark`` is the partition's before all of them. ``rises`` (in any order) apply
    from their offsets on, also behind the last record. Returns the rows and the watermark after all of them.
    """
    seen = np.minimum(rows["event_time"].to_numpy(), rows[TIMESTAMP].to_numpy()) - delay
    raised = np.full(rows.height + 1, _NONE, dtype=np.int64)
    raised[0] = _NONE if watermark is None else watermark
    offsets = rows[OFFSET].to_numpy()
    if marked := [(rise.next_offset, rise.watermark) for rise in rises]:
        from_offsets, to_marks = np.array(marked, dtype=np.int64).T
        np.maximum.at(raised, np.searchsorted(offsets, from_offsets), to_marks)
    # Index i stands for the moment before record i, after the records up to i - 1 and the rises up to i.
    marks = np.maximum.accumulate(np.maximum(raised, np.concatenate(([_NONE], seen))))
    none = int(np.searchsorted(marks, _NONE, side="right"))
    unknown = pl.Series(BEFORE, [None] * min(none, rows.height), dtype=pl.Int64)
    before = unknown.append(pl.Series(BEFORE, marks[none:-1]))
    return rows.hstack([before]), None if none == len(marks) else int(marks[-1])


def stream(was: Stream, partitions: Mapping[int, Watermark], idle: Collection[int], now: int) -> Stream:
    """The stream's watermark from those of ALL partitions of the topic; ``idle``: which of them are idle at ``now``.

    It never goes back. While all are idle it goes on from the largest partition watermark at the pace of ``now``; a
    gap of more than LONGEST_LOOK_AWAY, or a step back of the clock, adds nothing.
    """
    busy = [w for p, w in partitions.items() if p not in idle]
    if busy or not partitions:
        slowest = None if None in busy or not busy else min(w for w in busy if w is not None)
        return Stream(later(was.watermark, slowest), None)
    start = later(was.watermark, *partitions.values())
    if start is None:
        return Stream(None, None)
    passed = 0 if was.advanced_at is None else now - was.advanced_at
    return Stream(start + (passed if 0 < passed <= LONGEST_LOOK_AWAY else 0), now)
