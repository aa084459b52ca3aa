"""Migrations that have to do something about what they find."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from commands.init import MIGRATIONS, migrate
from retail_stream.settings import Connections
from services.aggregator import declared, identities, tables
from services.aggregator.duplicates import as_bytes


@contextmanager
def at_version(warehouse: Engine, version: str) -> Iterator[Connection]:
    """An empty database of an earlier version, in the transaction that makes it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with warehouse.begin() as connection:
        connection.execute(text("DROP SCHEMA public, pipeline CASCADE; CREATE SCHEMA public"))
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        yield connection


def test_a_dimension_with_overlaps_is_emptied_for_the_merger_to_make_it_anew(
    connections: Connections, warehouse: Engine
) -> None:
    with at_version(warehouse, "0005") as connection:
        # An index that lost an entry lets this through.
        connection.execute(text("ALTER TABLE dim_products DROP CONSTRAINT dim_products_no_overlap"))
        connection.execute(
            text("""
            INSERT INTO dim_products (product_id, name, category, brand, price, stock_quantity, size, color,
                                      description, valid_from, valid_to)
            SELECT 1, '', '', '', 1, 1, '', '', '', to_timestamp(x), NULL FROM (VALUES (10), (20)) v(x);
            ALTER TABLE dim_products ADD CONSTRAINT dim_products_no_overlap EXCLUDE USING gist (product_sk WITH =);
            INSERT INTO dim_stores (store_id, name, address, manager, open_date, status, phone_number,
                                    valid_from, valid_to)
            VALUES (1, '', '', '', 'epoch', '', '', to_timestamp(10), to_timestamp(20)),
                   (1, '', '', '', 'epoch', '', '', to_timestamp(20), NULL);
            INSERT INTO consumer_positions (consumer_group, topic, partition, epoch, next_offset, source_offset)
            SELECT g, e || '.clean', 0, 1, 7, 7 FROM unnest(ARRAY['scd_merger', 'aggregator']) g,
                                                     unnest(ARRAY['products', 'stores']) e
        """)
        )
    migrate(connections)
    with warehouse.connect() as connection:
        left = text("""
            SELECT (SELECT count(*) FROM dim_products), (SELECT count(*) FROM dim_stores),
                   (SELECT array_agg(consumer_group || ' ' || topic ORDER BY consumer_group, topic)
                    FROM consumer_positions)
        """)
        positions = ["aggregator products.clean", "aggregator stores.clean", "scd_merger stores.clean"]
        assert tuple(connection.execute(left).one()) == (0, 2, positions)


def test_facts_get_extra_and_a_dimension_that_spelled_it_otherwise_is_filled_again(
    connections: Connections, warehouse: Engine
) -> None:
    with at_version(warehouse, "0006") as connection:
        connection.execute(text("CREATE TABLE facts_of_then PARTITION OF fact_sales DEFAULT"))
        connection.execute(
            text("""
            INSERT INTO fact_sales (transaction_id, store_id, event_time, customer_id, product_id, quantity, unit_price,
                                    total_amount, payment_method, discount_applied, tax_amount)
            VALUES (1, 2, '2026-11-30', 3, 4, 1, 1, 1, 'cash', 0, 0);
            INSERT INTO products_changes (product_id, last_update_time, deleted, name, category, brand, price,
                                          stock_quantity, size, color, description, extra)
            VALUES (1, to_timestamp(10), false, '', '', '', 1, 1, '', '', '', '{"weight": "NaN"}');
            INSERT INTO stores_changes (store_id, last_update_time, deleted) VALUES (1, to_timestamp(10), true);
            INSERT INTO dim_products (product_id, name, category, brand, price, stock_quantity, size, color,
                                      description, valid_from, valid_to)
            VALUES (1, '', '', '', 1, 1, '', '', '', to_timestamp(10), NULL);
            INSERT INTO consumer_positions (consumer_group, topic, partition, epoch, next_offset, source_offset)
            SELECT g, e || '.clean', 0, 1, 7, 7 FROM unnest(ARRAY['scd_merger', 'aggregator']) g,
                                                     unnest(ARRAY['products', 'stores']) e
        """)
        )
    migrate(connections)
    with warehouse.connect() as connection:
        fact = text("SELECT transaction_id, extra FROM sales_enriched WHERE extra IS NULL")
        assert connection.execute(fact).all() == [(1, None)]
        left = text("""
            SELECT (SELECT count(*) FROM dim_products), (SELECT count(*) FROM products_changes),
                   (SELECT count(*) FROM stores_changes),
                   (SELECT array_agg(consumer_group || ' ' || topic ORDER BY consumer_group, topic)
                    FROM consumer_positions)
        """)
        positions = ["aggregator products.clean", "aggregator stores.clean", "scd_merger stores.clean"]
        assert tuple(connection.execute(left).one()) == (0, 0, 1, positions)


def test_facts_that_are_there_do_not_name_their_records_and_it_is_stored_which_ones_these_are(
    connections: Connections, warehouse: Engine
) -> None:
    with at_version(warehouse, "0010") as connection:
        connection.execute(
            text("""
            SELECT make_fact_partition('2026-01-05');
            INSERT INTO fact_sales VALUES (1, 2, '2026-01-05', 3, 4, 1, 1, 1, 'cash', 0, 0, '{"a": 1}');
            INSERT INTO consumer_positions (consumer_group, topic, partition, epoch, next_offset, source_offset)
            VALUES ('aggregator', 'sales.clean', 0, 1, 7, 9), ('aggregator', 'sales.clean', 1, 1, 0, -1),
                   ('scd_merger', 'stores.clean', 2, 1, 7, 8)
        """)
        )
    migrate(connections)
    with warehouse.connect() as connection:
        fact = text("SELECT extra->>'a', published_at, source_partition, source_offset FROM fact_sales")
        assert connection.execute(fact).all() == [("1", None, None, None)]
        enriched = text("SELECT transaction_id, published_at, source_partition, source_offset FROM sales_enriched")
        assert connection.execute(enriched).all() == [(1, None, None, None)]
        assert connection.execute(text("SELECT partition, source_offset FROM stored_before")).all() == [(0, 9)]


SERVICES_OWN = {
    "consumer_positions", "stored_settings", "replays", "customers_changes", "products_changes", "stores_changes",
    "stream_watermark", "partition_watermarks", "replayed_rises", "sale_identities", "fact_partitions", "stored_before",
    "topics_read", "forgotten", "kept_since", "aggregations",
    "warehouse_id", "outbox",
}  # fmt: skip


def test_what_the_services_keep_moves_with_its_rows_and_rights(connections: Connections, warehouse: Engine) -> None:
    role = f"service_{uuid.uuid4().hex[:8]}"
    with at_version(warehouse, "0012") as connection:
        connection.execute(
            text(f"""
            CREATE ROLE {role};
            GRANT {role} TO CURRENT_USER;
            GRANT USAGE ON SCHEMA public TO {role};
            GRANT SELECT, INSERT ON fact_sales, fact_partitions TO {role};
            GRANT EXECUTE ON FUNCTION make_fact_partition TO {role};
            GRANT SELECT ON ALL TABLES IN SCHEMA public TO retail_stream_reader;
            INSERT INTO consumer_positions (consumer_group, topic, partition, epoch, next_offset, source_offset)
            VALUES ('aggregator', 'sales.clean', 3, 2, 7, 9);
            INSERT INTO outbox (topic, headers, timestamp_ms) VALUES ('sales.late', '[]', 5);
            SELECT make_fact_partition('2026-01-05')
        """)
        )
    migrate(connections)
    try:
        with warehouse.begin() as connection:
            where = text(
                "SELECT relname FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace)"
                " AND relkind IN ('r', 'p', 'v')"
            )
            own = set(connection.execute(where, {"schema": "pipeline"}).scalars())
            public = set(connection.execute(where, {"schema": "public"}).scalars())
            assert own == SERVICES_OWN
            assert public & SERVICES_OWN == {"consumer_positions"}
            position = text("SELECT partition, epoch, next_offset, source_offset FROM public.consumer_positions")
            assert connection.execute(position).all() == [(3, 2, 7, 9)]
            assert connection.execute(text("SELECT outbox FROM pipeline_state")).scalar_one() == 1
            next_id = "INSERT INTO outbox (topic, headers, timestamp_ms) VALUES ('sales.late', '[]', 6) RETURNING id"
            assert connection.execute(text(next_id)).scalar_one() == 2
            connection.execute(text(f"SET LOCAL ROLE {role}"))
            connection.execute(text("SELECT make_fact_partition('2026-01-07'), make_fact_partition('2026-02-07')"))
            made = text(
                "SELECT array_agg(partition::text ORDER BY first_day) FROM fact_partitions WHERE name LIKE '%2026_0%'"
            )
            assert connection.execute(made).scalar_one()[:2] == ["fact_sales_2026_01", "fact_sales_2026_02"]
            connection.execute(text("SET LOCAL ROLE retail_stream_reader"))
            assert connection.execute(position).all() == [(3, 2, 7, 9)]
            with pytest.raises(ProgrammingError, match="permission denied for schema pipeline"):
                connection.execute(text("SELECT FROM pipeline.outbox"))
    finally:
        with warehouse.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {role}; DROP ROLE {role}"))


def test_tables_of_the_services_without_those_of_analysts_are_made_anew(
    connections: Connections, warehouse: Engine
) -> None:
    with warehouse.begin() as connection:
        connection.execute(text("INSERT INTO outbox (topic, headers, timestamp_ms) VALUES ('sales.late', '[]', 5)"))
        connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    migrate(connections)
    with warehouse.connect() as connection:
        assert connection.execute(text("SELECT outbox FROM public.pipeline_state")).scalar_one() == 0


def test_identities_of_a_batch_each_become_few_rows(connections: Connections, warehouse: Engine) -> None:
    with at_version(warehouse, "0007") as connection:
        for partition, first in ((1, 0), (0, 100), (1, 40_000), (1, 70_000), (0, 7)):
            ids = pl.DataFrame(
                {"transaction_id": range(first, first + 30_000), "event_time": 5, "store_id": first},
                schema_overrides={"store_id": pl.Int32},
            )
            connection.execute(
                text("INSERT INTO sale_identities (partition, expires, identities) VALUES (:p, to_timestamp(:at), :b)"),
                {"p": partition, "at": first, "b": as_bytes(ids)},
            )
    migrate(connections)
    with warehouse.connect() as connection:
        found = {p: identities.held(connection, p) for p in (0, 1)}
    assert [(c.size, c.low, c.high, c.expires) for c in found[0]] == [(60_000, 7, 30_099, 100_000_000)]
    sizes = [(c.size, c.low, c.high, c.expires) for c in found[1]]
    assert sizes == [(60_000, 0, 69_999, 40_000_000_000), (30_000, 70_000, 99_999, 70_000_000_000)]
    assert found[0][0].rows is not None
    assert found[0][0].rows["store_id"].to_list() == [100] * 30_000 + [7] * 30_000


def test_days_of_facts_stay_and_those_of_the_default_partition_get_their_own(
    connections: Connections, warehouse: Engine
) -> None:
    with at_version(warehouse, "0008") as connection:
        connection.execute(
            text("""
            CREATE TABLE fact_sales_2026_01_05 PARTITION OF fact_sales FOR VALUES FROM ('2026-01-05') TO ('2026-01-06');
            CREATE TABLE fact_sales_2026_01_06 (LIKE fact_sales);
            CREATE TABLE fact_sales_9999_12_31 PARTITION OF fact_sales FOR VALUES FROM ('9999-12-31') TO (MAXVALUE);
            CREATE TABLE fact_sales_other_days PARTITION OF fact_sales DEFAULT;
            INSERT INTO fact_sales
            SELECT 1, 1, at::timestamptz, 1, 1, 1, 1, 1, '', 0, 0
            FROM unnest(ARRAY['1900-02-01', '2026-01-05', '2026-01-07', '2026-02-01', '2026-02-28', '9999-12-30',
                              '9999-12-31']) at
        """)
        )
    migrate(connections)
    with warehouse.begin() as connection:
        rows = connection.execute(text("SELECT tableoid::regclass::text FROM fact_sales ORDER BY event_time"))
        assert [name.removeprefix("fact_sales_") for name in rows.scalars()] == [
            "1900s", "2026_01_05", "2026_01_07", "2026_02", "2026_02", "9999_12_30", "9999_12_31",
        ]  # fmt: skip
        assert connection.execute(text("SELECT to_regclass('fact_sales_other_days')")).scalar_one() is None
        archived = text("SELECT partition::text FROM fact_partitions WHERE first_day = '2026-01-06'")
        assert connection.execute(archived).scalar_one() == "fact_sales_2026_01_06"


def test_a_warehouse_that_has_results_has_the_two_entries_that_they_were_computed_with(
    connections: Connections, warehouse: Engine
) -> None:
    with at_version(warehouse, "0017") as connection:
        connection.execute(text("INSERT INTO stored_settings VALUES ('SALES_WINDOWS', '1m')"))
    migrate(connections)
    with warehouse.connect() as connection:
        stored = connection.execute(text("SELECT value FROM stored_settings WHERE name = 'schemas/windows.toml'"))
        assert stored.scalar_one() == declared.USUAL.text
        tables.require(connection, declared.USUAL)
