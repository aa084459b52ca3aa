"""Check 4: every window of sales, summed again from the sales that were in time for it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from commands.audit.engine import Engine
from commands.verify.compare import Column, Kind, check, columns
from commands.verify.report import Check

#: Kind of window → the column that its rows are for.
IDS = {"store": "store_id", "product": "product_id"}
#: Kind of window → its table.
TABLES = {"store": "sales_by_window", "product": "sales_by_product_window"}
COUNTS = ("transactions", "units_sold", "units_returned")
MONEY = ("gross_sales", "returns_amount", "discounts", "taxes", "net_sales")
MEASURES = (*columns(*COUNTS), *columns(*MONEY, kind=Kind.CENTS))

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Size:
    """One kind of window, as SALES_WINDOWS writes it; ``size`` and ``slide`` in microseconds."""

    name: str
    size: int
    slide: int

    @property
    def pane(self) -> str:
        """SQL: start of the last window that ``event_time`` is in; floor, also before 1970."""
        return f"(event_time - ((event_time % {self.slide}) + {self.slide}) % {self.slide})"


def span(text: str) -> int | None:
    """Microseconds of a size or slide like ``90s`` or ``5m``; None for anything else."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    return int(match[1]) * _UNITS[match[2]] * 1_000_000 if match else None


def sizes(setting: str) -> tuple[Size, ...]:
    """The windows of a stored SALES_WINDOWS, e.g. ``1m,5m/1m``."""
    found = []
    for part in (p.strip() for p in setting.split(",")):
        size, _, slide = part.partition("/")
        length, step = span(size), span(slide or size)
        assert length is not None, f"SALES_WINDOWS is stored as {setting!r}"
        assert step is not None, f"SALES_WINDOWS is stored as {setting!r}"
        found.append(Size(size, length, step))
    return tuple(sorted(found, key=lambda w: w.size))


def judge(engine: Engine, windows: Sequence[Size], lateness: int) -> None:
    """Make ``counted``: ``sales`` with ``duplicate`` (an earlier record of its identity is still held: it counts
    nowhere and is not late) and ``too_late`` (for at least one of its windows). ``lateness`` in microseconds.
    """
    last_end = f"greatest({', '.join(f'{w.pane} + {w.size}' for w in windows)})"
    first_end = f"least({', '.join(f'{w.pane} + {w.slide}' for w in windows)})"
    engine.execute(f"""
        CREATE OR REPLACE TABLE counted AS
        SELECT *, NOT duplicate AND coalesce(before >= {first_end} + {lateness}, false) AS too_late
        FROM (SELECT *, nth > 1 AND coalesce({last_end} + {lateness} > before, true) AS duplicate FROM sales)
    """)


def expected(engine: Engine, kind: str, windows: Sequence[Size], lateness: int, watermark: int | None) -> None:
    """Make ``windows_<kind>`` of ``counted``: key, end, measures (money in cents) and the state at the stream's
    ``watermark`` (None: not known yet, every window is open).
    """
    engine.execute(f"""
        CREATE OR REPLACE TABLE windows_{kind} (
            window_size BIGINT, window_start BIGINT, {IDS[kind]} BIGINT, window_end BIGINT,
            {", ".join(f"{m} BIGINT" for m in (*COUNTS, *MONEY))}, state VARCHAR)
    """)
    now = "NULL::BIGINT" if watermark is None else str(watermark)
    for window in windows:
        engine.execute(f"""
            INSERT INTO windows_{kind} BY NAME
            SELECT *, gross_sales - returns_amount - discounts AS net_sales,
                   CASE WHEN {now} >= window_end + {lateness} THEN 'final'
                        WHEN {now} >= window_end THEN 'fired' ELSE 'open' END AS state
            FROM (
                SELECT {window.size} AS window_size, window_start, {IDS[kind]},
                       window_start + {window.size} AS window_end,
                       count(*) AS transactions,
                       coalesce(sum(quantity) FILTER (quantity > 0), 0) AS units_sold,
                       coalesce(sum(-quantity) FILTER (quantity < 0), 0) AS units_returned,
                       coalesce(sum(total_cents) FILTER (quantity >= 0), 0) AS gross_sales,
                       coalesce(sum(-total_cents) FILTER (quantity < 0), 0) AS returns_amount,
                       sum(discount_cents) AS discounts,
                       sum(tax_cents) AS taxes
                FROM (
                    SELECT * EXCLUDE (back), {window.pane} - back * {window.slide} AS window_start
                    FROM counted, range({window.size // window.slide}) AS r(back)
                    WHERE NOT duplicate
                )
                WHERE coalesce(before < window_start + {window.size} + {lateness}, true)
                GROUP BY window_start, {IDS[kind]}
            )
        """)


def window_check(engine: Engine, kind: str) -> Check:
    """The line of a table of windows: every measure and the state of every row."""
    wanted, found = f"windows_{kind}", TABLES[kind]
    keys = [Column("window_size", Kind.SPAN), Column("window_start", Kind.TIME), Column(IDS[kind])]
    values = [Column("window_end", Kind.TIME), *MEASURES, Column("state")]
    sums = [engine.execute(f"SELECT coalesce(sum(net_sales), 0) FROM {t}").fetchall()[0][0] for t in (wanted, found)]
    money = Column("net_sales", Kind.CENTS)
    return check(engine, found, wanted, found, keys, values, " = ".join(["Σ net_sales", *map(money.show, sums)]))
