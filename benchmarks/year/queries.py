"""The queries of README.md, docs/ and `make demo`, and what those read that read more in a year."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.year.load import END
from commands.demo.questions import QUESTIONS


@dataclass(frozen=True)
class Query:
    """``reads``: the rows that its answer is made of, if they are more in a year; then its time is compared per row."""

    title: str
    sql: str
    reads: str = ""


_MOMENT = f"{END} - interval '1 hour'"
_DOCUMENTED = (
    Query(
        "README: categories of a window",
        "SELECT category, units_sold, units_returned, net_sales FROM sales_by_category_window"
        f" WHERE window_size = '1 minute' AND window_start = date_trunc('minute', {_MOMENT})"
        " ORDER BY net_sales DESC LIMIT 4",
    ),
    Query(
        "README: the last versions of a product",
        "SELECT product_id, price, stock_quantity, valid_from, valid_to, is_current FROM dim_products"
        " WHERE product_id = 170 ORDER BY valid_from DESC LIMIT 3",
    ),
    Query(
        "README: a product as of a moment",
        f"SELECT product_id, price, stock_quantity, valid_from FROM products_as_of({_MOMENT}, 170)",
    ),
    Query("README: the current products", "SELECT count(*), avg(price)::numeric(8, 2) FROM products_current"),
    Query("README: how many facts", "SELECT count(*) FROM fact_sales", "fact_sales"),
    Query(
        "docs/warehouse.md: how late sales are published",
        "SELECT store_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY published_at - event_time) FROM fact_sales"
        " GROUP BY 1",
        "fact_sales",
    ),
    Query(
        "docs/warehouse.md: the windows that sales missed",
        "SELECT u.size, u.start, count(*), max(u.by)"
        " FROM late_sales, unnest(window_sizes, window_starts, late_by) u (size, start, by) GROUP BY 1, 2 ORDER BY 2",
        "late_sales",
    ),
    Query(
        "docs/warehouse.md: the revisions of a window",
        "SELECT revision, net_sales, published_at FROM window_revisions WHERE window_size = '1 minute'"
        f" AND window_start = date_trunc('minute', {_MOMENT}) AND kind = 'store' AND id = '7' ORDER BY revision",
    ),
    Query(
        "docs/warehouse.md: the sales of a customer",
        "SELECT event_time, product_name, total_amount FROM sales_enriched WHERE customer_id = 7 ORDER BY event_time",
        "fact_sales WHERE customer_id = 7",
    ),
    Query(
        "docs/console-tools.md: the newest windows",
        "SELECT window_start, store_id, net_sales, state FROM sales_by_window WHERE window_size = '1 minute'"
        " ORDER BY 1 DESC, 3 DESC LIMIT 5",
    ),
)
#: Of the questions of `make demo`, what those read that have no limit.
_READ = {
    "The history of the customer who changed most": "dim_customers",
    "Sales with the dimension versions of their time, if the price has changed since": (
        "fact_sales WHERE event_time >= (SELECT date_trunc('month', max(event_time)) FROM fact_sales)"
    ),
}


def queries() -> Iterator[Query]:
    """All of them."""
    yield from _DOCUMENTED
    for question in QUESTIONS:
        yield Query(f"make demo: {question.title}", question.sql, _READ.get(question.title, ""))
