"""A warehouse with days of history, written by SQL: rows as the services write them, and none of the work."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import Engine, text

from benchmarks.windows.stream import START_S
from retail_stream.entities import JOINED
from services.aggregator import duplicates

#: Ids of each dimension that are open. Their number does not grow.
IDS = 500
#: Where the loaded history ends and the stream of the benchmark begins, as SQL.
END = f"to_timestamp({START_S - 600})"
#: So that no loaded sale has the id of a published one.
_FIRST_ID = 10**12
_ATTRIBUTES = {
    "customers": (
        "name, email, address, join_date, loyalty_points, phone_number, age, gender",
        "'n' || i, 'e' || i, 'a' || i, timestamptz '2020-01-01Z', i % 1000, 'p' || i, 40, 'f'",
    ),
    "products": (
        "name, category, brand, price, stock_quantity, size, color, description",
        "'n' || i, 'c' || i % 8, 'b' || i % 20, 10 + i % 100, i % 1000, 'M', 'blue', 'd' || i",
    ),
    "stores": (
        "name, address, manager, open_date, status, phone_number",
        "'n' || i, 'a' || i, 'm' || i, timestamptz '2020-01-01Z', 'open', 'p' || i",
    ),
}
_SUMS = (
    "transactions, units_sold, units_returned, gross_sales, returns_amount, discounts, taxes, revision, state, "
    "updated_at"
)


@dataclass(frozen=True)
class History:
    """So many days, each with so many sales, windows of stores and of products, and versions of each dimension."""

    days: int
    per_day: int

    @property
    def rows(self) -> int:
        """Rows of each of these tables."""
        return self.days * self.per_day

    def fill(self, engine: Engine) -> None:
        """Write it into an empty warehouse."""
        moments = f"""
            (SELECT i, {END} - ({self.rows} - i) * interval '1 day' / {self.per_day} AS at
             FROM generate_series(0, {self.rows - 1}) i) m
        """
        months = f"generate_series(date_trunc('month', {END} - interval '{self.days} days'), {END}, interval '1 month')"
        with engine.begin() as connection:
            connection.execute(text(f"SELECT make_fact_partition(m::date) FROM {months} m"))
            for entity in JOINED:
                # What the triggers of histories cost is measured elsewhere.
                connection.execute(text(f"ALTER TABLE dim_{entity} DISABLE TRIGGER USER"))
                connection.execute(text(self._versions(entity)))
                connection.execute(text(f"ALTER TABLE dim_{entity} ENABLE TRIGGER USER"))
            for statement in _sales(moments):
                connection.execute(text(statement))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))

    def _versions(self, entity: str) -> str:
        names, values = _ATTRIBUTES[entity]
        at = f"{END} - ({self.rows} - {{i}}) * interval '1 day' / {self.per_day}"
        until = f"CASE WHEN i + {IDS} < {self.rows} THEN {at.format(i=f'(i + {IDS})')} END"
        return f"""
            INSERT INTO dim_{entity} ({entity[:-1]}_id, {names}, valid_from, valid_to)
            SELECT i % {IDS}, {values}, {at.format(i="i")}, {until} FROM generate_series(0, {self.rows - 1}) i
        """


def _sales(moments: str) -> tuple[str, ...]:
    sale = f"{_FIRST_ID} + i, i % {IDS}, at, i % {IDS}, i % {IDS}, 1, 9.99, 9.99, 'Cash', 0, 0.8, NULL, at, i % 4, i"
    start = "date_trunc('minute', at)"
    sums = "1, 1, 0, 9.99, 0, 0, 0.8, 0, 'final', at"
    missed = f"ARRAY[interval '1 minute'], ARRAY[{start}], ARRAY[interval '1 second'], at + interval '3 minutes'"
    return (
        f"INSERT INTO fact_sales SELECT {sale} FROM {moments}",
        f"INSERT INTO late_sales SELECT {sale}, {missed} FROM {moments} WHERE i % 50 = 0",
        *(
            f"INSERT INTO {table} (window_size, window_start, window_end, {id_}, {_SUMS})"
            f" SELECT interval '1 minute', {start}, {start} + interval '1 minute', i % {IDS}, {sums} FROM {moments}"
            for table, id_ in (("sales_by_window", "store_id"), ("sales_by_product_window", "product_id"))
        ),
        "INSERT INTO window_revisions (kind, window_size, window_start, window_end, id, transactions, units_sold,"
        " units_returned, gross_sales, returns_amount, discounts, taxes, revision, published_at)"
        f" SELECT 'store', interval '1 minute', {start}, {start} + interval '1 minute', i % {IDS},"
        f" 1, 1, 0, 9.99, 0, 0, 0.8, 0, at FROM {moments}",
    )


def hold_identities(engine: Engine, partitions: int, number: int) -> None:
    """Let each partition hold so many identities of sales, with ids before those of the stream, for a day longer."""
    times = np.full(duplicates.LARGE, START_S * 1_000_000, "<i8").tobytes()
    stores = np.zeros(duplicates.LARGE, "<i4").tobytes()
    insert = text("""
        INSERT INTO sale_identities (partition, expires, number, low, high, identities)
        VALUES (:p, to_timestamp(:until), :n, :low, :high, :identities)
    """)
    with engine.begin() as connection:
        for p in range(partitions):
            for first in range(-number, 0, duplicates.LARGE):
                ids = np.arange(first, first + duplicates.LARGE, dtype="<i8")
                row = {"p": p, "until": START_S + 86_400 + p, "n": ids.size, "low": first, "high": int(ids[-1])}
                connection.execute(insert, {**row, "identities": ids.tobytes() + times + stores})
