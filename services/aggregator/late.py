"""Sales that are too late for a window: which windows they missed, and their rows in `late_sales`."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from sqlalchemy import Connection

from retail_stream.warehouse import postgres
from services.aggregator import facts
from services.aggregator.step import LATE, Rules
from services.aggregator.warehouse import FIRST, LAST, instant
from services.aggregator.watermark import BEFORE
from services.aggregator.windows import Window


@dataclass(frozen=True)
class Missed:
    """A window that a sale missed: its bounds, and how far the watermark was past ``end`` + lateness; microseconds."""

    window: Window
    start: int
    end: int
    by: int


def missed(rules: Rules, event_time: int, watermark: int) -> list[Missed]:
    """The windows that a sale of ``event_time`` misses at the watermark before it, the shortest and oldest first."""
    return [
        Missed(w, end - w.size, end, watermark - end - rules.lateness)
        for w in rules.windows
        for end in w.ends(event_time)
        if watermark >= end + rules.lateness
    ]


def store(connection: Connection, sales: pl.DataFrame, rules: Rules) -> None:
    """Insert the sales that are too late for a window; ``sales``: of a :class:`step.Step`."""
    if sales.is_empty() or (late := sales.filter(LATE)).is_empty():
        return
    every = [missed(rules, *row) for row in late.select("event_time", BEFORE).iter_rows()]

    def array(name: str, element: Callable[[Missed], object]) -> pl.Series:
        return pl.Series(name, ["{" + ",".join(str(element(m)) for m in some) + "}" for some in every])

    rows = late.select(*facts.COLUMNS, pl.col(BEFORE).clip(FIRST, LAST).alias("watermark")).with_columns(
        array("window_sizes", lambda m: f"{m.window.size} us"),
        array("window_starts", lambda m: f'"{instant(m.start)}"'),
        array("late_by", lambda m: f"{m.by} us"),
    )
    postgres.copy(connection, "late_sales", rows, times=[*facts.TIMES, "watermark"])
