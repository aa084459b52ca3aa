"""Where facts are stored: partitions made ahead, far dates, months that were archived, a role that owns nothing."""

import uuid

import polars as pl
import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from services.aggregator import facts
from services.aggregator.windows import SECOND

DAY = 86_400 * SECOND


def asked(engine: Engine, query: str) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def day(number: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "transaction_id": [number], "store_id": [1], "event_time": [number * DAY], "customer_id": [1],
            "product_id": [1], "quantity": [1], "unit_price": [1.0], "total_amount": [1.0], "discount_applied": [0.0],
            "tax_amount": [0.0], "payment_method": ["card"], "expires": [number * DAY + 1], "watermark_before": [None],
            "extra": [None], "timestamp": [number * DAY + 1000], "partition": [3], "source_offset": [number],
        },
        schema_overrides={"watermark_before": pl.Int64, "extra": pl.String},
    )  # fmt: skip


def stored(engine: Engine, *days: int) -> int:
    """How many of these sales, one of each day, were stored."""
    with engine.begin() as connection:
        return facts.store(connection, pl.concat(map(day, days)))


JANUARY = 20_454  # 2026-01-01


def test_a_fact_names_its_record_also_where_the_timestamp_is_beyond_all_years(warehouse: Engine) -> None:
    far = pl.concat([day(JANUARY + 1), day(JANUARY + 2)]).with_columns(
        pl.Series("timestamp", [2**62, -(2**62)]), pl.Series("source_offset", [7, -1])
    )
    with warehouse.begin() as connection:
        assert facts.store(connection, pl.concat([day(JANUARY), far])) == 3
    columns = "published_at::text, source_partition, source_offset"
    assert asked(warehouse, f"SELECT {columns} FROM fact_sales ORDER BY transaction_id") == [
        ("2026-01-01 00:00:00.001+00", 3, JANUARY),
        ("9999-12-31 23:59:59.999999+00", 3, 7),
        ("0001-01-01 00:00:00+00", 3, None),
    ]


def test_facts_are_in_months_made_ahead_and_in_centuries_where_dates_are_far(warehouse: Engine) -> None:
    far = (-70 * 365, -1, 0, 365, 200 * 365)
    assert stored(warehouse, *far, JANUARY, JANUARY + 30, JANUARY + 31) == 8
    where = asked(warehouse, "SELECT tableoid::regclass::text FROM fact_sales ORDER BY event_time")
    centuries = ["fact_sales_1900s"] * 4
    assert [name for (name,) in where] == [
        *centuries, "fact_sales_2026_01", "fact_sales_2026_01", "fact_sales_2026_02", "fact_sales_2100s",
    ]  # fmt: skip
    assert stored(warehouse, JANUARY + 50) == 1
    ahead = "SELECT count(*) FROM fact_partitions WHERE first_day = '2026-03-01' AND after_day = '2026-04-01'"
    assert asked(warehouse, ahead) == [(1,)]


def test_four_thousand_days_need_a_hundred_partitions_and_no_care(warehouse: Engine) -> None:
    assert stored(warehouse, *range(JANUARY, JANUARY + 4_000)) == 4_000
    names = [name for (name,) in asked(warehouse, "SELECT DISTINCT tableoid::regclass::text FROM fact_sales")]
    assert len(names) == 132
    default = "SELECT partdefid FROM pg_partitioned_table WHERE partrelid = 'fact_sales'::regclass"
    assert asked(warehouse, default) == [(0,)]


def test_init_has_made_this_month_and_the_next_two(warehouse: Engine) -> None:
    months = """
        SELECT bool_and(m IN (SELECT first_day FROM fact_partitions)) FROM (
            SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date AS m
            FROM generate_series(0, 2) n) wanted
    """
    assert asked(warehouse, months) == [(True,)]


@pytest.mark.parametrize(
    "then", ["", "DROP TABLE {}", "ALTER TABLE {} RENAME TO old", "ALTER TABLE {} SET SCHEMA archive"]
)
def test_a_late_sale_of_a_month_that_was_detached_is_said_and_not_stored(warehouse: Engine, then: str) -> None:
    stored(warehouse, JANUARY, JANUARY + 31)
    with warehouse.begin() as connection:
        connection.execute(text("CREATE SCHEMA archive; ALTER TABLE fact_sales DETACH PARTITION fact_sales_2026_01"))
        if then:
            connection.execute(text(then.format("fact_sales_2026_01")))
    with capture_logs() as logs:
        assert stored(warehouse, JANUARY + 1, JANUARY + 32, JANUARY + 2) == 1
    assert "The partition fact_sales_2026_01 of fact_sales was detached, so its late sales" in str(logs)
    assert asked(warehouse, "SELECT transaction_id FROM fact_sales ORDER BY 1") == [(JANUARY + 31,), (JANUARY + 32,)]


def test_an_archived_month_that_is_attached_again_takes_sales(warehouse: Engine) -> None:
    stored(warehouse, JANUARY)
    with warehouse.begin() as connection:
        connection.execute(
            text("""
            ALTER TABLE fact_sales DETACH PARTITION fact_sales_2026_01;
            ALTER TABLE fact_sales_2026_01 RENAME TO back;
            ALTER TABLE fact_sales ATTACH PARTITION back FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')
        """)
        )
    assert stored(warehouse, JANUARY + 1) == 1


def test_a_role_that_owns_nothing_makes_the_partitions_that_it_needs(warehouse: Engine) -> None:
    role = f"writer_{uuid.uuid4().hex[:8]}"
    with warehouse.begin() as connection:
        connection.execute(
            text(f"""
            CREATE ROLE {role};
            GRANT {role} TO CURRENT_USER;
            GRANT USAGE ON SCHEMA public, pipeline TO {role};
            GRANT SELECT, INSERT ON fact_sales, fact_partitions TO {role};
            GRANT EXECUTE ON FUNCTION make_fact_partition TO {role}
        """)
        )
    try:
        with warehouse.begin() as connection:
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            assert facts.store(connection, day(JANUARY)) == 1
    finally:
        with warehouse.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {role}; DROP ROLE {role}"))
