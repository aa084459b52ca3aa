"""Migrations that have to do something about what they find."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from commands.init import MIGRATIONS, migrate
from retail_stream.settings import Connections


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
