"""Windows by what `schemas/windows.toml` declares: the page's sums are those of the tables that were made."""

from typing import Any

import pytest
from sqlalchemy import Engine, text

from commands.dashboard import warehouse as reads
from commands.dashboard import windows
from commands.dashboard.settings import DashboardSettings
from retail_stream.entities import Entity
from retail_stream.settings import Connections
from services.aggregator import tables
from services.aggregator.declared import USUAL, Aggregation, Declarations, View

PRODUCT, STORE = USUAL.aggregations
PAYMENT = Aggregation("payment", "payment_method", "string", ("transactions", "taxes"), "15m/5m")
#: Its table gets the comment that tables of sessions have.
VISIT = Aggregation("visit", "customer_id")
BRAND = View("brand", Entity.PRODUCTS, "brand", PRODUCT)
#: Names that would be markup, SQL, or not fit; and one that the page has for all others.
NAMES = ["<b>card</b>", "'; --", "بطاقة", "現金", "x" * 500, "all others", "", "a", "b", "c"]


@pytest.fixture
def filled(warehouse: Engine) -> Engine:
    """Each name has one sale more than the one before it, in windows of 15 minutes that begin every 5 minutes."""
    with warehouse.begin() as connection:
        tables.make(connection, Declarations((STORE, PRODUCT, PAYMENT, VISIT), (BRAND,)))
        connection.execute(
            text(f"COMMENT ON TABLE {VISIT.table} IS 'sums of the sales by customer_id in each session'")
        )
        connection.execute(text("INSERT INTO stored_settings VALUES ('SALES_WINDOWS', '1m,20m/5m')"))
        connection.execute(
            text("""
                INSERT INTO sales_by_product_window
                    (window_size, window_start, window_end, product_id, transactions, units_sold, units_returned,
                     gross_sales, returns_amount, discounts, taxes, revision, state, updated_at)
                SELECT size, at, at + size, product, 1, product, 0, 10 * product, 1, 0.5, 0, 0, 'final', now()
                FROM generate_series(1, 20) product, unnest(ARRAY['1 minute', '20 minutes']::interval[]) size,
                     generate_series(timestamptz '2026-03-01 08:00Z', '2026-03-01 09:00Z', '20 minutes') at
            """)
        )
        for n, name in enumerate(NAMES, 1):
            connection.execute(
                text("""
                    INSERT INTO sales_by_payment_window
                        (window_size, window_start, window_end, payment_method, transactions, taxes, revision, state,
                         updated_at)
                    SELECT '15 minutes', at, at + interval '15 minutes', :name, :n, 0.25 * :n, 0, 'open', now()
                    FROM generate_series(timestamptz '2026-03-01 08:00Z', '2026-03-01 09:00Z', '5 minutes') at
                """),
                {"name": name, "n": n},
            )
    return warehouse


def page(connections: Connections, **asked: Any) -> Any:
    """What the page gets, read as the role that can only read."""
    engine = reads.reader(DashboardSettings(**connections.model_dump()))
    with reads.session(engine) as connection:
        return windows.some(connection, **asked) if asked else windows.choices(connection)


def test_the_page_offers_what_was_made(filled: Engine, connections: Connections) -> None:
    offered = {c["name"]: (c["sizes"], len(c["measures"]), c["measures"][0]) for c in page(connections)}
    # Of the store there are no windows yet. A slide is known of the sizes of SALES_WINDOWS only.
    assert list(offered) == ["category", "brand", "payment", "product"]
    assert offered["payment"] == (["15m"], 2, "transactions")
    for name in ("category", "brand", "product"):
        assert offered[name] == (["1m", "20m/5m"], 8, "gross_sales"), name


def test_sums_by_a_declared_column_are_those_of_its_table(filled: Engine, connections: Connections) -> None:
    rows = page(connections, written="15m", last=3, by="payment")
    starts = sorted({r["start"] for r in rows})
    assert [s % 3600 / 60 for s in starts] == [50, 55, 0]
    of_newest = {r["name"]: (r["transactions"], r["taxes"]) for r in rows if r["start"] == starts[-1]}
    # The seven with the most sales, the long one at the length that is shown, and the others as one without a name.
    shown: dict[str | None, tuple[int, float]] = {None: (1 + 2 + 3, 1.5)}
    shown |= {name[:100]: (n, 0.25 * n) for n, name in enumerate(NAMES, 1) if n > 3}
    assert of_newest == shown
    assert all("gross_sales" not in r for r in rows)


@pytest.mark.parametrize(
    ("by", "table", "key"), [("product", "product", "'product ' || product_id"), ("brand", "brand", "brand")]
)
def test_sums_by_a_product_and_by_an_attribute_are_those_of_their_relations(
    filled: Engine, connections: Connections, by: str, table: str, key: str
) -> None:
    query = f"""
        SELECT extract(epoch FROM window_start)::float8, {key}, sum(transactions), sum(gross_sales)::float8,
               sum(net_sales)::float8
        FROM sales_by_{table}_window WHERE window_size = interval '20 minutes' GROUP BY 1, 2
    """
    with filled.connect() as connection:
        wanted = {(start, name): tuple(sums) for start, name, *sums in connection.execute(text(query))}
    rows = page(connections, written="20m/5m", last=2, by=by)
    starts = sorted({start for start, _ in wanted})[-2:]
    assert sorted({r["start"] for r in rows}) == starts
    named = {(r["start"], r["name"]): (r["transactions"], r["gross_sales"], r["net_sales"]) for r in rows if r["name"]}
    assert named == {place: wanted[place] for place in named}
    assert len(named) == 2 * min(7, len({name for _, name in wanted}))
    sums = sum(r["gross_sales"] for r in rows)
    assert sums == sum(gross for (start, _), (_, gross, _) in wanted.items() if start in starts)


@pytest.mark.parametrize(
    ("written", "by", "words"),
    [
        ("1m", "customer", "by='customer' is not valid; allowed: store, category, brand, payment, product."),
        ("1m", "payment", "size='1m' is not valid; allowed: 15m."),
        ("15m", "brand", "size='15m' is not valid; allowed: 1m, 20m/5m."),
        ("2m", None, "size='2m' is not valid; allowed: 1m, 20m/5m."),
    ],
)
def test_what_is_not_declared_is_refused(
    filled: Engine, connections: Connections, written: str, by: str | None, words: str
) -> None:
    with pytest.raises(ValueError, match="is not valid") as refused:
        page(connections, written=written, last=3, by=by)
    assert str(refused.value) == words


def test_a_warehouse_without_an_aggregator_offers_nothing(warehouse: Engine, connections: Connections) -> None:
    assert page(connections) == []
    with pytest.raises(ValueError, match="allowed: none yet"):
        page(connections, written="1m", last=3, by=None)
