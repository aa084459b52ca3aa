"""One step: what a batch of sales, and the passing of time, do to the state. Pure.

judge     each record by its partition's watermark before it: duplicate? too late for which windows?
stream    the watermarks of all partitions, and which are idle, make the stream's
(settle   what the stream's watermark does to window rows: lifecycle.py, once the stored rows are at hand)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from services.aggregator import duplicates, totals, watermark, windows
from services.aggregator.duplicates import EXPIRES, Chunk, Held
from services.aggregator.watermark import Rise, Stream, Watermark
from services.aggregator.windows import Window

PARTITION: Final = "partition"
LATE: Final = "late"


@dataclass(frozen=True)
class Rules:
    """The settings that shape results; ``delay`` and ``lateness`` in microseconds."""

    windows: tuple[Window, ...]
    delay: int
    lateness: int


@dataclass(frozen=True)
class State:
    """What is known before a step. ``watermarks``: of every partition of the topic, whoever owns it.

    ``held``: identities, of our own partitions. ``idle``: partitions that are idle now, ours and others'.
    """

    watermarks: Mapping[int, Watermark]
    idle: frozenset[int]
    stream: Stream
    held: Mapping[int, Held]


@dataclass(frozen=True)
class Slice:
    """What was read of one of our partitions: ``rows`` (repeats dropped) of offsets [start, end), in order.

    ``replayed``: rises that a former warehouse recorded for these offsets, up to and with ``end``.
    """

    start: int
    end: int
    rows: pl.DataFrame
    replayed: tuple[Rise, ...] = ()


@dataclass(frozen=True)
class Step:
    """What a step decided. ``sales``: every sale that is no duplicate, with PARTITION, BEFORE and EXPIRES; with a flag

    LATE: too late for one of its windows; ``deltas``: as totals.SCHEMA; ``rises``: to be
    recorded; ``watermarks``, ``held`` and ``chunks`` (what is new to hold): of our partitions.
    """

    sales: pl.DataFrame
    deltas: pl.DataFrame
    rises: tuple[Rise, ...]
    watermarks: Mapping[int, Watermark]
    stream: Stream
    held: Mapping[int, Held]
    chunks: Mapping[int, Chunk]
    duplicates: int
    conflicts: int


def step(slices: Mapping[int, Slice], state: State, now: int, rules: Rules) -> Step:
    """Judge what was read of each of our partitions (all of them are in ``slices``) and move the watermarks on.

    A partition of ours that is not idle and is behind the stream, or has records, wakes: it is raised to the stream
    before its records are judged, and the rise is recorded, so that nothing final changes.
    """
    marks: dict[int, Watermark] = {}
    told: dict[int, duplicates.Told] = {}
    rises: list[Rise] = []
    for p, part in slices.items():
        mark = state.watermarks[p]
        awake = p not in state.idle or part.rows.height > 0
        if awake and watermark.later(mark, state.stream.watermark) != mark:
            mark = watermark.later(mark, state.stream.watermark)
            rises.append(Rise(p, part.start, mark))  # type: ignore[arg-type]
        rows, marks[p] = watermark.judge_by(part.rows, mark, rules.delay, part.replayed)
        if rows.height:
            rows = rows.with_columns(
                pl.lit(p, pl.Int32).alias(PARTITION),
                windows.expiry(rules.windows, rules.lateness).alias(EXPIRES),
                pl.any_horizontal(w.missed(rules.lateness) > 0 for w in rules.windows).alias(LATE),
            )
            told[p] = duplicates.tell_apart(rows, state.held[p])
    idle = state.idle - told.keys()
    flow = watermark.stream(state.stream, {**state.watermarks, **marks}, idle, now)
    chunks = {p: t.held for p, t in told.items() if t.held is not None}
    held = {p: duplicates.hold(state.held[p], chunks.get(p), marks[p]) for p in slices}
    sales = pl.concat([t.sales for t in told.values()]) if told else pl.DataFrame()
    deltas = pl.DataFrame(schema=totals.SCHEMA)
    if told:
        deltas = totals.per_window(totals.measured(sales), rules.windows, rules.lateness)
    return Step(
        sales=sales,
        deltas=deltas,
        rises=tuple(rises),
        watermarks=marks,
        stream=flow,
        held=held,
        chunks=chunks,
        duplicates=sum(t.duplicates for t in told.values()),
        conflicts=sum(t.conflicts for t in told.values()),
    )
