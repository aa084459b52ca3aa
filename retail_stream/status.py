"""How the pipeline stands: counts, lag and watermark in one look."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rich.table import Table
from sqlalchemy import Engine, text

from retail_stream import kafka, positions, postgres, topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.lag import lags
from retail_stream.settings import Connections
from retail_stream.topics import Group


@dataclass(frozen=True)
class Status:
    """Counts since the beginning; ``produced``, ``cleaned``, ``rejected`` are log end offsets, markers included."""

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

    @property
    def drained(self) -> bool:
        """Nothing is on its way: lag 0 in every group and the outbox empty."""
        return not any(self.lag.values()) and self.outbox == 0


_COUNTS = text(
    "SELECT "
    + ", ".join(f"(SELECT count(*) FROM dim_{e})" for e in DIMENSIONS)
    + """, (SELECT count(*) FROM fact_sales),
         (SELECT count(*) FROM outbox),
         (SELECT watermark FROM stream_watermark),
         (SELECT coalesce(jsonb_object_agg(state, n), '{}')
            FROM (SELECT state, count(*) AS n FROM sales_by_window GROUP BY state) s)
    """
)


def look(engine: Engine, connections: Connections) -> Status:
    """Read everything once.

    Raises:
        Unavailable: Kafka or Postgres does not answer.
    """
    names = [f(e) for f in (topics.raw, topics.clean, topics.dlq) for e in Entity] + [topics.Result.LATE]
    ends = kafka.end_offsets(connections, kafka.partitions(connections, *names))

    def total(suffix: str) -> int:
        return sum(n for (topic, _), n in ends.items() if topic.endswith(suffix))

    with postgres.outages(engine), engine.connect() as connection:
        # Before the outbox: what a batch puts there comes with its positions.
        passed = positions.stored(connection)
        *versions, facts, outbox, watermark, windows = connection.execute(_COUNTS).one()
    lag = lags(connections, passed)
    return Status(
        produced=total(".raw"),
        cleaned=total(".clean"),
        rejected=total(".dlq"),
        late=total(".late"),
        versions=sum(versions),
        facts=facts,
        windows=windows,
        outbox=outbox,
        watermark=watermark,
        lag=lag,
    )


def as_table(now: Status, before: Status | None = None, seconds: float = 1.0) -> Table:
    """For a terminal; with a status ``seconds`` before, also rates."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("", "total", "per second"):
        table.add_column(column, justify="left" if not column else "right")
    for name in ("produced", "cleaned", "rejected", "late", "versions", "facts"):
        rate = "" if before is None else f"{(getattr(now, name) - getattr(before, name)) / seconds:,.0f}"
        table.add_row(name, f"{getattr(now, name):,}", rate)
    for state, count in sorted(now.windows.items()):
        table.add_row(f"windows {state}", f"{count:,}", "")
    for group, lag in now.lag.items():
        table.add_row(f"lag {group}", f"{lag:,}", "")
    table.add_row("outbox", f"{now.outbox:,}", "")
    table.add_row("watermark", "none yet" if now.watermark is None else f"{now.watermark:%Y-%m-%d %H:%M:%S} UTC", "")
    return table


def as_line(now: Status, before: Status, seconds: float) -> str:
    """For a log: rates since ``before`` and the lag, on one line."""
    names = ("produced", "cleaned", "rejected", "versions")
    rates = [f"{name} {(getattr(now, name) - getattr(before, name)) / seconds:,.0f}/s" for name in names]
    closed = sum(n for state, n in now.windows.items() if state != "open")
    windows = f"windows {sum(now.windows.values()):,} ({closed:,} fired)"
    return ", ".join([*rates, windows, f"lag {sum(now.lag.values()):,}"])
