"""The views over 100,000 versions find theirs by steps into an index: pages that are read, not seconds."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.servers import own_database

PRODUCTS, VERSIONS = 100, 1_000
#: Pages of a step into an index: its height, and the row.
STEP = 5


@pytest.fixture(scope="module")
def histories(initialised: Connections) -> Iterator[Engine]:
    """Each product, the customer 1 and the store 1 have a version a second; the last ones are open."""
    attributes = {
        "customers": "'', '', '', 'epoch', 1, '', 1, ''",
        "products": "'', 'category ' || n % 7, '', 1, 1, '', '', ''",
        "stores": "'', '', '', 'epoch', '', ''",
    }
    columns = {
        "customers": "name, email, address, join_date, loyalty_points, phone_number, age, gender",
        "products": "name, category, brand, price, stock_quantity, size, color, description",
        "stores": "name, address, manager, open_date, status, phone_number",
    }
    with own_database(initialised) as mine:
        engine = postgres.engine(mine.database_url)
        _fill(engine, attributes, columns)
        yield engine
        engine.dispose()


def _fill(warehouse: Engine, attributes: dict[str, str], columns: dict[str, str]) -> None:
    with warehouse.begin() as connection:
        for entity, keys in {"customers": 1, "products": PRODUCTS, "stores": 1}.items():
            connection.execute(
                text(f"""
                ALTER TABLE dim_{entity} DISABLE TRIGGER USER;
                INSERT INTO dim_{entity} ({entity[:-1]}_id, {columns[entity]}, valid_from, valid_to)
                SELECT k, {attributes[entity]}, to_timestamp(n), CASE WHEN n < {VERSIONS} THEN to_timestamp(n + 1) END
                FROM generate_series(1, {keys}) k, generate_series(1, {VERSIONS}) n;
                ALTER TABLE dim_{entity} ENABLE TRIGGER USER
            """)
            )
        connection.execute(
            text(f"""
            INSERT INTO sales_by_product_window (window_size, window_start, window_end, product_id, transactions,
                units_sold, units_returned, gross_sales, returns_amount, discounts, taxes, revision, state, updated_at)
            SELECT '1 minute', to_timestamp(540), to_timestamp(600), k, 1, 1, 0, 1, 0, 0, 0, 0, 'open', now()
            FROM generate_series(1, {PRODUCTS}) k;
            SELECT make_fact_partition('1970-01-01');
            INSERT INTO fact_sales
            SELECT k, 1, to_timestamp(k * 5), 1, k, 1, 1, 1, '', 0, 0 FROM generate_series(1, {PRODUCTS}) k
        """)
        )
    with warehouse.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(
            text("VACUUM ANALYZE dim_products, dim_customers, dim_stores, fact_sales, sales_by_product_window")
        )


def pages(connection: Connection, query: str) -> int:
    plan: Any = connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}")).scalar_one()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    top = plan[0]["Plan"]
    assert "Seq Scan on dim_" not in json.dumps(plan), plan
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


@pytest.mark.parametrize(
    ("query", "most"),
    [
        ("SELECT * FROM products_current WHERE product_id = 7", STEP),
        ("SELECT count(*) FROM products_current", PRODUCTS + STEP),
        ("SELECT * FROM products_as_of(to_timestamp(990), 7)", STEP),
        ("SELECT * FROM products_as_of(to_timestamp(2), 7)", STEP),
        ("SELECT * FROM customers_as_of(to_timestamp(500), 1)", STEP),
        ("SELECT * FROM stores_as_of(to_timestamp(500), 1)", STEP),
        ("SELECT * FROM sales_by_category_window", PRODUCTS * STEP + STEP),
        # Of each of three dimensions the version of the sale, and the first one.
        ("SELECT * FROM sales_enriched", PRODUCTS * 6 * STEP + STEP),
        ("SELECT * FROM sales_enriched WHERE transaction_id = 7", 7 * STEP),
    ],
)  # fmt: skip
def test_pages_that_are_read_follow_from_the_rows_found_and_not_from_the_histories(
    histories: Engine, query: str, most: int
) -> None:
    with histories.connect() as connection:
        pages(connection, query)  # what a session reads of the catalogue at first
        assert pages(connection, query) <= most


def test_the_category_of_a_window_is_that_of_its_start_else_the_first_else_unknown(warehouse: Engine) -> None:
    with warehouse.begin() as connection:
        connection.execute(
            text("""
            INSERT INTO dim_products (product_id, name, category, brand, price, stock_quantity, size, color,
                                      description, valid_from, valid_to)
            SELECT product_id, '', category, '', 1, 1, '', '', '', to_timestamp(a), to_timestamp(b)
            FROM (VALUES (1, 'first', 60, 120), (1, 'second', 120, 180), (1, 'third', 300, NULL)) v
                (product_id, category, a, b);
            INSERT INTO sales_by_product_window (window_size, window_start, window_end, product_id, transactions,
                units_sold, units_returned, gross_sales, returns_amount, discounts, taxes, revision, state, updated_at)
            SELECT '1 minute', to_timestamp(60 * n), to_timestamp(60 * n + 60), p, 1, 1, 0, 1, 0, 0, 0, 0,
                   'open', now()
            FROM generate_series(0, 6) n, generate_series(1, 2) p
        """)
        )
        rows = connection.execute(
            text("""
            SELECT category, array_agg(extract(epoch FROM window_start)::int / 60 ORDER BY window_start)
            FROM sales_by_category_window GROUP BY 1
        """)
        )
        # 0 is before all versions, 3 and 4 are in the gap after a delete.
        assert dict(map(tuple, rows)) == {
            "first": [0, 1, 3, 4], "second": [2], "third": [5, 6], "Unknown": [*range(7)],
        }  # fmt: skip


@pytest.mark.parametrize("key", ["customer_id", "product_id", "store_id"])
def test_the_sales_of_a_customer_a_product_or_a_store_are_found_by_an_index(warehouse: Engine, key: str) -> None:
    with warehouse.begin() as connection:
        connection.execute(
            text("""
            SELECT make_fact_partition('2026-01-05');
            INSERT INTO fact_sales
            SELECT n, n % 1000, '2026-01-05', n % 1000, n % 1000, 1, 1, 1, '', 0, 0 FROM generate_series(1, 20000) n;
            ANALYZE fact_sales
        """)
        )
        plan = connection.execute(text(f"EXPLAIN SELECT * FROM fact_sales WHERE {key} = :n"), {"n": 7}).scalars()
        assert f"Bitmap Index Scan on fact_sales_2026_01_{key}_idx" in "\n".join(plan)
