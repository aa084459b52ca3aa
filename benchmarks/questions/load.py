"""A warehouse with a year of a retailer, written by SQL: rows as the services write them, and none of the work."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, text

#: SQL: the end of the year. Questions ask for today and this month.
END: Final = "date_trunc('minute', now())"
DAYS: Final = 365
#: Entity → its ids and the versions of each.
VERSIONS: Final = {"customers": (30_000, 2), "products": (2_000, 18), "stores": (200, 20)}
_SUMS = "transactions, units_sold, units_returned, gross_sales, returns_amount, discounts, taxes"


def _one_of(number: str, *names: str) -> str:
    return f"(ARRAY[{', '.join(map(repr, names))}])[1 + ({number}) % {len(names)}]"


def _address(number: str) -> str:
    city = _one_of(f"({number}) / 5", "Salem", "Troy", "Avon", "Milton", "Dover", "Clayton", "Oxford", "Fairview")
    region = _one_of(number, "OR", "NY", "TX", "CA", "OH")
    return (
        f"({number}) % 900 + 1 || ' Main Street, ' || {city} || ', ' || {region} || ' ' || 10000 + ({number}) % 80000"
    )


#: Columns and values of version ``k`` of id ``i``: some attributes change with each version, some never.
_ATTRIBUTES = {
    "customers": (
        "name, email, address, join_date, loyalty_points, phone_number, age, gender",
        f"'Customer ' || i, 'c' || i || '@example.com', {_address('i * 7 + k * (i % 3)')},"
        f" {END} - (i * 37 % 900) * interval '1 day', (i * 13 + k * 400) % 4000, '+1 555 ' || i, 18 + i % 60,"
        f" {_one_of('i', 'Female', 'Male', 'Female', 'Other')}",
    ),
    "products": (
        "name, category, brand, price, stock_quantity, size, color, description",
        f"'Product ' || i, {_one_of('i', 'Shirts', 'Trousers', 'Dresses', 'Shoes', 'Coats', 'Bags', 'Hats', 'Socks')},"
        f" 'Brand ' || i % 20, 10 + i % 90 + k % 4, (i * 31 + k * 17) % 400,"
        f" {_one_of('i / 8', 'S', 'M', 'L', 'XL')}, {_one_of('i / 3', 'Black', 'White', 'Blue', 'Red', 'Green')}, 'd'",
    ),
    "stores": (
        "name, address, manager, open_date, status, phone_number",
        f"'Store ' || i, {_address('i * 11')}, 'Manager ' || i + k, {END} - (i * 5 % 1500) * interval '1 day',"
        f" CASE WHEN i % 50 = 0 AND k = 7 THEN 'renovating' ELSE 'open' END, '+1 555 ' || i",
    ),
}


@dataclass(frozen=True)
class Year:
    """A year of so many sales, in baskets of one to three lines, which come at the same pace."""

    sales: int

    def fill(self, engine: Engine) -> None:
        """Write it into an empty warehouse."""
        with engine.begin() as connection:
            connection.execute(text(f"SELECT make_fact_partition(m::date) FROM {self._months()} m"))
            for entity in VERSIONS:
                connection.execute(text(f"ALTER TABLE dim_{entity} DISABLE TRIGGER USER"))
                connection.execute(text(_versions(entity)))
                connection.execute(text(f"ALTER TABLE dim_{entity} ENABLE TRIGGER USER"))
            for statement in (self._facts(), _LATE, *_WINDOWS, *_REVISIONS, _DEAD):
                connection.execute(text(statement))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))

    def _months(self) -> str:
        begin = f"date_trunc('month', {END} - interval '{DAYS} days')"
        return f"generate_series({begin}, {END}, interval '1 month')"

    def _facts(self) -> str:
        """The basket of sale ``i`` is ``b``; its customer, store and time follow from ``b`` alone.

        Two thirds of the customers buy at a time: others come, and the first ones stay away.
        """
        customers, products, stores = (ids for ids, _ in VERSIONS.values())
        share = f"({customers} / 3 * (b / {self.sales}.0) + {customers} / 1.5 * power(b * 0.7548776662 % 1, 2))::int"
        return f"""
            INSERT INTO fact_sales
            SELECT i, b * 7919 % {stores}, at, {share}, product, n, price, n * price,
                   {_one_of("b", "Card", "Cash", "Card", "Voucher")}, CASE i % 9 WHEN 0 THEN 1.5 ELSE 0 END,
                   round(n * price * 0.08, 2), NULL, at + (b % 40) * interval '1 second', b % 4, i
            FROM (
                SELECT i, b, {END} - ({self.sales} - b) * interval '{DAYS} days' / {self.sales} AS at,
                       floor({products} * power(i * 0.6180339887 % 1, 2))::int AS product,
                       CASE WHEN i % 19 = 0 THEN -1 ELSE 1 + i % 3 END AS n,
                       (10 + floor({products} * power(i * 0.6180339887 % 1, 2))::int % 90)::numeric AS price
                FROM (SELECT i, i - i % (1 + (i / 6) % 3) AS b FROM generate_series(0::bigint, {self.sales - 1}) i) s
            ) s
        """


def _versions(entity: str) -> str:
    ids, each = VERSIONS[entity]
    names, values = _ATTRIBUTES[entity]
    step = f"interval '{DAYS} days' / {each}"
    begin = f"{END} - interval '{DAYS} days' + k * {step} + (i % 100) * {step} / 100"
    return f"""
        INSERT INTO dim_{entity} ({entity[:-1]}_id, {names}, valid_from, valid_to)
        SELECT i, {values}, {begin}, CASE WHEN k < {each - 1} THEN {begin} + {step} END
        FROM generate_series(0, {ids - 1}) i, generate_series(0, {each - 1}) k
    """


_LATE = """
    INSERT INTO late_sales
    SELECT f.*, ARRAY[interval '1 minute'], ARRAY[date_trunc('minute', event_time)],
           ARRAY[make_interval(secs => transaction_id % 90)], event_time + interval '3 minutes'
    FROM fact_sales f WHERE transaction_id * 7919 % 103 = 0
"""
_SUMMED = """
    count(*), coalesce(sum(quantity) FILTER (WHERE quantity > 0), 0),
    coalesce(-sum(quantity) FILTER (WHERE quantity < 0), 0),
    coalesce(sum(total_amount) FILTER (WHERE quantity > 0), 0),
    coalesce(-sum(total_amount) FILTER (WHERE quantity < 0), 0), sum(discount_applied), sum(tax_amount)
"""
_WINDOWS = tuple(
    f"""
    INSERT INTO {table} (window_size, window_start, window_end, {key}, {_SUMS}, revision, state, updated_at)
    SELECT interval '1 minute', m, m + interval '1 minute', {key}, {_SUMMED}, count(*) FILTER (WHERE late), 'final', m
    FROM (SELECT *, date_trunc('minute', event_time) AS m, transaction_id % 20 = 0 AS late FROM fact_sales) f
    GROUP BY m, {key}
    """
    for table, key in (("sales_by_window", "store_id"), ("sales_by_product_window", "product_id"))
)
#: An earlier revision lacks a fifth of the amounts.
_REVISIONS = tuple(
    f"""
    INSERT INTO window_revisions (kind, window_size, window_start, window_end, id, revision, {_SUMS}, published_at)
    SELECT '{kind}', window_size, window_start, window_end, {kind}_id::text, r, transactions, units_sold,
           units_returned, gross_sales * (5 - revision + r) / 5, returns_amount, discounts, taxes,
           window_end + r * interval '20 seconds'
    FROM {table}, generate_series(0, revision) r
    """
    for kind, table in (("store", "sales_by_window"), ("product", "sales_by_product_window"))
)
_DEAD = f"""
    INSERT INTO dead_letters
    SELECT 'sales', i % 4, i, {END} - i * interval '25 minutes', i % 4, i * 50,
           CASE WHEN i % 3 = 0 THEN '{{discount_not_negative}}'::text[] ELSE '{{valid_avro}}' END,
           'abc', 'why', i % 200,
           CASE WHEN i % 3 = 0 THEN jsonb_build_object(
               'transaction_id', i, 'store_id', i % 200, 'total_amount', 10 + i % 90, 'discount_applied', -1) END
    FROM generate_series(0, 19999) i
"""
