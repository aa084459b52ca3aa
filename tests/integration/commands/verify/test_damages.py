"""Damages to a drained pipeline, as data: `verify` names each of them, and only it.

A damage is an SQL statement on a copy of the database, the red lines of the report, and words of theirs.
"""

from typing import NamedTuple

import pytest
from sqlalchemy import text

from commands.verify import load, warehouse
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from tests.harness.servers import copied_database
from tests.integration.commands.verify.test_verify import done, run

__all__ = ["done"]


class Damage(NamedTuple):
    """``lines``: the red ones, with commas between."""

    statement: str
    lines: str
    words: str


DAMAGES = {
    "a second id of the warehouse": Damage(
        "INSERT INTO warehouse_id VALUES (gen_random_uuid())", "warehouse_id", "is one of 2"
    ),
    "facts are said to be off": Damage(
        "UPDATE stored_settings SET value = 'off' WHERE name = 'FACT_SALES'", "fact_sales", "is stored as off"
    ),
    "a view of current versions without rows": Damage(
        "CREATE OR REPLACE VIEW products_current AS SELECT * FROM dim_products WHERE false",
        "products_current",
        "missing",
    ),
    "a view of current versions with the closed ones": Damage(
        "CREATE OR REPLACE VIEW customers_current AS SELECT * FROM dim_customers",
        "customers_current",
        "should not be there",
    ),
    "a trigger less": Damage(
        "DROP TRIGGER one_writer ON dim_stores",
        "triggers and keys",
        "relation 'dim_stores' name 'one_writer': missing",
    ),
    "a trigger that is off": Damage(
        "ALTER TABLE dim_products DISABLE TRIGGER no_overlap_updated", "triggers and keys", "'no_overlap_updated'"
    ),
    "an index less": Damage("DROP INDEX dim_customers_one_open", "triggers and keys", "'dim_customers_one_open'"),
    "a condition less": Damage(
        "ALTER TABLE dim_stores DROP CONSTRAINT dim_stores_not_empty", "triggers and keys", "'dim_stores_not_empty'"
    ),
    "a key less": Damage(
        "ALTER TABLE sales_by_window DROP CONSTRAINT sales_by_window_pkey", "triggers and keys", "sales_by_window_pkey"
    ),
    "a cent in a window": Damage(
        "UPDATE sales_by_window SET gross_sales = gross_sales + 0.01"
        " WHERE ctid = (SELECT min(ctid) FROM sales_by_window WHERE state = 'open')",
        "sales_by_window",
        "gross_sales expected",
    ),
    "a position that skips a record": Damage(
        "UPDATE consumer_positions SET source_offset = source_offset + 1"
        " WHERE topic = 'products.clean' AND partition = 0",
        "consumer_positions",
        "source_offset expected",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_named_and_only_it(done, name):
    damage = DAMAGES[name]
    with copied_database(done) as copy:
        engine = postgres.engine(copy.database_url)
        with engine.begin() as connection:
            connection.execute(text(damage.statement))
        engine.dispose()
        code, output = run(copy)
    assert code == 1
    red = [row.partition("  ")[0].removeprefix("✗ ") for row in output.splitlines() if row.startswith("✗")]
    assert ",".join(red) == damage.lines, output
    assert damage.words in output


def _end_queries(connections: Connections) -> int:
    """End the sessions that execute a query; returns their number."""
    engine = postgres.engine(connections.database_url)
    with engine.begin() as connection:
        ended = connection.execute(
            text("""
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend'
            """)
        ).scalars()
        number = sum(ended)
    engine.dispose()
    return number


@pytest.mark.parametrize(
    "damage", ["", "DELETE FROM dim_stores WHERE store_sk = (SELECT max(store_sk) FROM dim_stores)"]
)
def test_a_session_that_ends_while_the_view_is_read_costs_its_reading_only(done, monkeypatch, damage):
    read_topics, ended = load._topics, []
    slow = warehouse.QUERIES["sales_enriched"] + ", (SELECT pg_sleep(2)) slow"
    monkeypatch.setitem(warehouse.QUERIES, "sales_enriched", slow)
    with copied_database(done) as copy:

        def topics(*args):
            ended.append(_end_queries(copy))
            return read_topics(*args)

        monkeypatch.setattr(load, "_topics", topics)
        if damage:
            engine = postgres.engine(copy.database_url)
            with engine.begin() as connection:
                connection.execute(text(damage))
            engine.dispose()
        code, output = run(copy)
    assert ended == [1]
    assert "read in a second snapshot" in output
    assert code == bool(damage), output
