"""Four questions to the warehouse, with the SQL that answers them."""

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from sqlalchemy import Engine, text


@dataclass(frozen=True)
class Question:
    """One question: a title and a SELECT."""

    title: str
    sql: str


QUESTIONS = (
    Question(
        "Sales per store and window",
        """SELECT window_start, store_id, transactions AS n, units_sold AS sold, units_returned AS returned,
       net_sales, revision, state
FROM sales_by_window
WHERE window_size = (SELECT min(window_size) FROM sales_by_window)
ORDER BY window_start DESC, net_sales DESC
LIMIT 8""",
    ),
    Question(
        "The history of the customer who changed most",
        """SELECT customer_id, name, loyalty_points AS points, valid_from, valid_to, is_current
FROM dim_customers
WHERE customer_id = (SELECT customer_id FROM dim_customers GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1)
ORDER BY valid_from
LIMIT 8""",
    ),
    Question(
        "Sales with the dimension versions of their time, if the price has changed since",
        """SELECT s.event_time, s.product_name, s.unit_price AS price_paid, p.price AS price_now
FROM sales_enriched s
JOIN dim_products p ON p.product_id = s.product_id AND p.is_current
WHERE p.price <> s.unit_price
ORDER BY s.event_time DESC
LIMIT 8""",
    ),
    Question(
        "What was rejected, and why",
        """SELECT entity, rule, count(*), min(published_at) AS first, max(published_at) AS last
FROM dead_letters, unnest(rules) rule
GROUP BY entity, rule
ORDER BY entity, count(*) DESC, rule""",
    ),
)


def show(console: Console, engine: Engine) -> None:
    """Print the answer to each question; the dead letters are those that were loaded."""
    with engine.connect() as connection:
        for question in QUESTIONS:
            result = connection.execute(text(question.sql))
            _print(console, question.title, list(result.keys()), [tuple(row) for row in result])


def _print(console: Console, title: str, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    table = Table(
        title=title, title_justify="left", title_style="bold", show_edge=False, box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    # As wide as it is: a terminal that is too narrow wraps lines, and cuts no column's name.
    width = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.print(table, width=max(width, console.width), crop=False, no_wrap=True, overflow="ignore")
    console.print()


def _text(value: object) -> str:
    if hasattr(value, "strftime"):
        return f"{value:%m-%d %H:%M:%S}"
    return "" if value is None else str(value)
