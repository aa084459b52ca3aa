"""The state of the pipeline: counts, lag and watermark, read once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from sqlalchemy import Engine, text

from commands.status.counts import Rows, count
from commands.status.lag import lags
from commands.status.refusals import refusals
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import Group
from retail_stream.warehouse import positions, postgres
from services.aggregator import declared, tables


@dataclass(frozen=True)
class Status:
    """Counts since the beginning; ``cleaned``, ``rejected`` and ``late`` are log end offsets.

    ``produced``: records that the cleaner has handled, plus its lag. The end offsets of raw topics would be too large,
    because transaction markers have offsets.
    """

    produced: int
    cleaned: int
    rejected: int
    late: int
    versions: int
    facts: int
    windows: Mapping[str, int]
    outbox: int
    watermark: datetime | None
    lag: Mapping[Group, int]
    #: when it was read, by this machine's clock
    at: datetime
    #: Those of ``versions``, ``facts`` and ``windows`` (its final ones) whose tables are too large to be counted.
    estimated: frozenset[str] = frozenset()
    #: Table of windows that `schemas/windows.toml` adds → its rows.
    further: Mapping[str, Rows] = field(default_factory=dict)

    @property
    def watermark_lag_s(self) -> float | None:
        """How far the watermark is behind the clock, in seconds; None before the first one."""
        return None if self.watermark is None else (self.at - self.watermark).total_seconds()

    def rates(self, before: "Status") -> dict[str, float]:
        """Counts per second since an earlier status."""
        seconds = max((self.at - before.at).total_seconds(), 1e-3)
        return {name: (getattr(self, name) - getattr(before, name)) / seconds for name in COUNTED}

    @property
    def drained(self) -> bool:
        """Whether nothing is in flight: lag 0 in every group and the outbox empty."""
        return not any(self.lag.values()) and self.outbox == 0


#: Fields that have a rate.
COUNTED = ("produced", "cleaned", "rejected", "late", "versions", "facts")

_DIMENSIONS = tuple(f"dim_{e}" for e in DIMENSIONS)
_FACTS, _WINDOWS = "fact_sales", "sales_by_window"
# Each state but the final one, which most windows have, has an index.
_STATE = text(f"""
    SELECT (SELECT count(*) FROM outbox), (SELECT watermark FROM stream_watermark),
           (SELECT count(*) FROM {_WINDOWS} WHERE state = 'open'),
           (SELECT count(*) FROM {_WINDOWS} WHERE state = 'fired')
""")


def look(engine: Engine, connections: Connections) -> Status:
    """Read the status now.

    Raises:
        Unavailable: Kafka or Postgres does not answer.
        RetailStreamError: Postgres refuses the query, or `retail-stream init` has not run.
    """
    names = [f(e) for f in (topics.clean, topics.dlq) for e in Entity] + [topics.Result.LATE]
    ends = end_offsets(connections, topic_partitions(connections, *names))

    def total(suffix: str) -> int:
        return sum(n for (topic, _), n in ends.items() if topic.endswith(suffix))

    with postgres.outages(engine), refusals(engine), engine.connect() as connection:
        # Counting takes longest; what was read before it would be old when the lag is computed.
        shipped = {declared.relation(name) for name in declared.SHIPPED}
        rows = count(connection, [*_DIMENSIONS, _FACTS, _WINDOWS])
        # After the tables in public, so that a user without rights reads that, not that there are no tables.
        further = count(connection, [table for table in tables.known(connection) if table not in shipped])
        # Before the outbox: a batch commits its positions and its part of the outbox together.
        passed = positions.stored(connection)
        outbox, watermark, is_open, fired = connection.execute(_STATE).one()
    windows = {"open": is_open, "fired": fired, "final": max(0, rows[_WINDOWS].number - is_open - fired)}
    lag = lags(connections, passed)
    return Status(
        produced=total(".clean") + total(".dlq") + lag[Group.CLEANER],
        cleaned=total(".clean"),
        rejected=total(".dlq"),
        late=total(".late"),
        versions=sum(rows[table].number for table in _DIMENSIONS),
        facts=rows[_FACTS].number,
        windows={state: number for state, number in windows.items() if number},
        outbox=outbox,
        watermark=watermark,
        lag=lag,
        at=datetime.now(UTC),
        estimated=frozenset(
            name
            for name, of in {"versions": _DIMENSIONS, "facts": (_FACTS,), "windows": (_WINDOWS,)}.items()
            if any(rows[table].is_estimate for table in of)
        ),
        further=further,
    )


#: What each figure counts, in the words of the page.
_NAMES = {
    "produced": "published", "cleaned": "clean", "rejected": "rejected", "late": "too late",
    "versions": "versions", "facts": "facts",
}  # fmt: skip
#: Watermark behind by more than this, and lags of more than this many seconds of work, are worrying.
_BEHIND_S, _WORK_S = 60.0, 10.0


def as_table(now: Status, before: Status | None = None) -> Table:
    """A table for a terminal; with an earlier status also rates. Green is good, yellow worrying, red rejected."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("", "total", "per second"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    rates = {} if before is None else now.rates(before)
    for name in COUNTED:
        about = "~" if name in now.estimated else ""
        style = "red" if name in ("rejected", "late") and getattr(now, name) else ""
        rate = f"{about}{max(0.0, rates[name]):,.{0 if rates[name] >= 10 else 1}f}" if rates else ""
        table.add_row(_NAMES[name], f"{about}{getattr(now, name):,}", rate, style=style)
    for state, number in sorted(now.windows.items()):
        about = "~" if state == "final" and "windows" in now.estimated else ""
        table.add_row(f"windows {state}", f"{about}{number:,}", "")
    for name, found in now.further.items():
        table.add_row(name, f"{'~' if found.is_estimate else ''}{found.number:,}", "")
    for group, lag in now.lag.items():
        worrying = rates and lag > _WORK_S * max(1.0, rates["produced"])
        table.add_row(f"lag {group}", f"{lag:,}", "", style="yellow" if worrying else "green")
    table.add_row("outbox", f"{now.outbox:,}", "")
    table.add_row("watermark", "none yet" if now.watermark is None else f"{now.watermark:%Y-%m-%d %H:%M:%S} UTC", "")
    if now.watermark_lag_s is not None:
        style = "yellow" if now.watermark_lag_s > _BEHIND_S else "green"
        table.add_row("watermark behind", f"{now.watermark_lag_s:,.0f} s", "", style=style)
    return table


def as_line(now: Status, before: Status) -> str:
    """One line for a log: rates since ``before``, windows and lag."""
    rates = now.rates(before)
    parts = [
        f"{_NAMES[name]} {max(0.0, rates[name]):,.0f}/s" for name in ("produced", "cleaned", "rejected", "versions")
    ]
    closed = sum(n for state, n in now.windows.items() if state != "open")
    windows = f"windows {sum(now.windows.values()):,} ({closed:,} fired)"
    return ", ".join([*parts, windows, f"lag {sum(now.lag.values()):,}"])


def as_json(now: Status, before: Status) -> dict[str, Any]:
    """Plain values for programs; docs/observability.md defines each field. Fields are added, never renamed."""
    return {
        "at": now.at.isoformat(),
        "counts": {name: getattr(now, name) for name in COUNTED},
        "per_second": {name: round(rate, 3) for name, rate in now.rates(before).items()},
        "windows": {state: now.windows.get(state, 0) for state in ("open", "fired", "final")},
        "further_windows": {name: found.number for name, found in now.further.items()},
        "estimated": sorted(now.estimated),
        "lag": {str(group): lag for group, lag in now.lag.items()},
        "outbox": now.outbox,
        "watermark": None if now.watermark is None else now.watermark.isoformat(),
        "watermark_lag_s": None if now.watermark_lag_s is None else round(now.watermark_lag_s, 3),
        "drained": now.drained,
    }
