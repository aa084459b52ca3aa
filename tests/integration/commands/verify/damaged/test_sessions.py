"""A session that ends while `verify` reads costs its reading only."""

import pytest
from sqlalchemy import text

from commands.verify import load, warehouse
from retail_stream.settings import Connections
from tests.harness.eventually import eventually
from tests.harness.servers import copied_database
from tests.integration.commands.verify.damaged.checking import connected
from tests.integration.commands.verify.reports import run


def _end_queries(connections: Connections) -> int:
    """End the sessions that execute a query; returns their number."""
    with connected(connections) as connection:
        ended = connection.execute(
            text("""
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend'
            """)
        ).scalars()
        return sum(ended)


@pytest.mark.parametrize(
    "damage", ["", "DELETE FROM dim_stores WHERE store_sk = (SELECT max(store_sk) FROM dim_stores)"]
)
def test_a_session_that_ends_while_the_view_is_read_costs_its_reading_only(done, monkeypatch, damage):
    read_topics, ended = load._topics, []
    # Materialized: the planner may otherwise sleep once for each row.
    view = warehouse.QUERIES["sales_enriched"]
    slow = f"WITH slow AS MATERIALIZED (SELECT pg_sleep(4)) SELECT q.* FROM slow, ({view}) q"
    monkeypatch.setitem(warehouse.QUERIES, "sales_enriched", slow)
    with copied_database(done) as copy:

        def topics(*args):
            # Another thread reads the view.
            ended.append(eventually(lambda: _end_queries(copy), "the view is read"))
            return read_topics(*args)

        monkeypatch.setattr(load, "_topics", topics)
        if damage:
            with connected(copy) as connection:
                connection.execute(text(damage))
        code, output = run(copy)
    assert ended == [1]
    assert "read in a second snapshot" in output
    assert code == bool(damage), output
