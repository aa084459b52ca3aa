"""One step: what a batch of sales, and the passing of time, do to the state. Pure.

1. Each record is judged by its partition's watermark before it: is it a duplicate, for which windows is it too late?
2. The watermarks of all partitions that are not idle make the stream's watermark.
3. The stream's watermark fires and finalises rows of windows: lifecycle.py, with the stored rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from services.aggregator import declared, duplicates, totals, watermark, windows
from services.aggregator.declared import Declarations
from services.aggregator.duplicates import EXPIRES, Held
from services.aggregator.totals import Grouping
from services.aggregator.watermark import Rise, Stream, Watermark
from services.aggregator.windows import Window

PARTITION: Final = "partition"
LATE: Final = "late"


@dataclass(frozen=True)
class Rules:
    """The settings that shape results.

    ``default``: the windows of SALES_WINDOWS. ``delay`` and ``lateness`` in microseconds. ``declared``: the entries of
    `schemas/windows.toml`.
    """

    default: tuple[Window, ...]
    delay: int
    lateness: int
    declared: Declarations = declared.USUAL

    @cached_property
    def groupings(self) -> tuple[Grouping, ...]:
        """What sales are summed by."""
        return tuple(Grouping(a, a.windows_or(self.default)) for a in self.declared.aggregations)

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The windows of all groupings, each once, the shortest first.

        Raises:
            SettingsError: a size has two slides.
        """
        return declared.slides(self.declared.aggregations, self.default)


@dataclass(frozen=True)
class StreamState:
    """The state of the stream before a step.

    ``watermarks``: of every partition of the topic, ours and others'. ``idle``: those of them that are idle now.
    ``held``: the identities of sales that count once, of our own partitions, as :func:`duplicates.deduplicate` needs.
    """

    watermarks: Mapping[int, Watermark]
    idle: frozenset[int]
    stream: Stream
    held: Mapping[int, Held]


@dataclass(frozen=True)
class PartitionBatch:
    """The sales of one of our partitions in the offsets [start, end): ``rows`` in order, without repeats.

    ``recorded_rises``: rises that an earlier warehouse recorded for the offsets up to ``end``, inclusive.
    """

    start: int
    end: int
    rows: pl.DataFrame
    recorded_rises: tuple[Rise, ...] = ()


@dataclass(frozen=True)
class Step:
    """The decision of a step.

    ``sales``: every sale that is not a duplicate, with PARTITION, BEFORE, EXPIRES and the flag LATE (too late for one
    of its windows). ``deltas``: what they add to windows, by the grouping's name. ``rises``: to be recorded.
    ``watermarks`` and ``held``: of our partitions.
    ``duplicates``, ``conflicts``: numbers of sales, as in :class:`duplicates.Deduplicated`.
    """

    sales: pl.DataFrame
    deltas: Mapping[str, pl.DataFrame]
    rises: tuple[Rise, ...]
    watermarks: Mapping[int, Watermark]
    stream: Stream
    held: Mapping[int, Held]
    duplicates: int
    conflicts: int


def step(batch: Mapping[int, PartitionBatch], state: StreamState, now: int, rules: Rules) -> Step:
    """Judge the sales of each of our partitions (``batch`` has all of them) and move the watermarks on.

    A partition that has sales, or is not idle, is awake. One that is awake and behind the stream is raised to the
    stream before its sales are judged, so that nothing final changes; the rise is recorded. ``now``: microseconds.
    """
    marks: dict[int, Watermark] = {}
    deduplicated: dict[int, duplicates.Deduplicated] = {}
    rises: list[Rise] = []
    for p, read in batch.items():
        mark = state.watermarks[p]
        awake = p not in state.idle or read.rows.height > 0
        if awake and watermark.later(mark, state.stream.watermark) != mark:
            mark = watermark.later(mark, state.stream.watermark)
            rises.append(Rise(p, read.start, mark))  # type: ignore[arg-type]
        rows, marks[p] = watermark.judge_by(read.rows, mark, rules.delay, read.recorded_rises)
        if rows.height:
            rows = rows.with_columns(
                pl.lit(p, pl.Int32).alias(PARTITION),
                windows.expiry(rules.windows, rules.lateness).alias(EXPIRES),
                pl.any_horizontal(w.missed(rules.lateness) > 0 for w in rules.windows).alias(LATE),
            )
            deduplicated[p] = duplicates.deduplicate(rows, state.held[p])
    idle = state.idle - deduplicated.keys()
    flow = watermark.stream(state.stream, {**state.watermarks, **marks}, idle, now)
    new = {p: d.new for p, d in deduplicated.items()}
    held = {p: duplicates.hold(state.held[p], new.get(p), marks[p]) for p in batch}
    sales = pl.concat([d.sales for d in deduplicated.values()]) if deduplicated else pl.DataFrame()
    deltas = totals.no_sums(rules.groupings)
    if deduplicated:
        deltas = totals.per_window(totals.measured(sales), rules.groupings, rules.lateness)
    return Step(
        sales=sales,
        deltas=deltas,
        rises=tuple(rises),
        watermarks=marks,
        stream=flow,
        held=held,
        duplicates=sum(d.duplicates for d in deduplicated.values()),
        conflicts=sum(d.conflicts for d in deduplicated.values()),
    )
