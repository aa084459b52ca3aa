"""The view by category, as `verify` recomputes it. Window starts and versions in seconds."""

import pytest

from commands.audit.engine import Engine, connect
from commands.audit.windows import COUNTS, MONEY
from commands.verify.categories import view_check
from commands.verify.shaping import CATEGORY

MEASURES = ", ".join((*COUNTS, *MONEY))


@pytest.fixture
def engine(tmp_path) -> Engine:
    """Product 1: Tops [10, 20), a gap, Shoes [30, ∞). Product 2: Tops [0, ∞). Product 3: never heard of."""
    engine = connect(tmp_path)
    engine.execute("""
        CREATE TABLE dim_products AS SELECT product_id, category, a * 1000000 AS valid_from, b * 1000000 AS valid_to
        FROM (VALUES (1, 'Tops', 10, 20), (1, 'Shoes', 30, NULL), (2, 'Tops', 0, NULL)) t(product_id, category, a, b)
    """)
    sold = "(1, 0), (1, 10), (2, 10), (1, 20), (1, 30), (3, 10)"
    engine.execute(f"""
        CREATE TABLE sales_by_product_window AS
        SELECT 10000000 AS window_size, begins * 1000000 AS window_start, begins * 1000000 + 10000000 AS window_end,
               product_id, {", ".join(f"10 + product_id AS {m}" for m in MEASURES.split(", "))}
        FROM (VALUES {sold}) t(product_id, begins)
    """)
    rows = "(0, 'Tops', 11), (10, 'Tops', 23), (20, 'Tops', 11), (30, 'Shoes', 11), (10, 'Unknown', 13)"
    engine.execute(f"""
        CREATE TABLE sales_by_category_window AS
        SELECT 10000000 AS window_size, begins * 1000000 AS window_start, begins * 1000000 + 10000000 AS window_end,
               category, {", ".join(f"n AS {m}" for m in MEASURES.split(", "))}
        FROM (VALUES {rows}) t(begins, category, n)
    """)
    return engine


def test_the_category_is_that_of_the_version_at_window_start_else_the_first_else_unknown(engine):
    check = view_check(engine, CATEGORY)
    assert (check.ok, check.expected, check.actual) == (True, 5, 5), check


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE sales_by_category_window SET taxes = taxes + 1 WHERE category = 'Shoes'", "taxes expected 0.11"),
        ("DELETE FROM sales_by_category_window WHERE category = 'Unknown'", "category 'Unknown': missing"),
        ("UPDATE dim_products SET category = 'Hats' WHERE product_id = 2", "category 'Hats': missing"),
    ],
)
def test_a_wrong_row_is_named(engine, damage, words):
    engine.execute(damage)
    check = view_check(engine, CATEGORY)
    assert not check.ok
    assert words in " ".join(check.examples)
