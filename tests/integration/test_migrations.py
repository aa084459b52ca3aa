"""Migrations that have to do something about what they find."""

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from commands.init import MIGRATIONS, migrate
from retail_stream.settings import Connections
from services.aggregator import identities
from services.aggregator.duplicates import as_bytes


@contextmanager
def at_version(warehouse: Engine, version: str) -> Iterator[Connection]:
    """An empty database of an earlier version, in the transaction that makes it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with warehouse.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
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
