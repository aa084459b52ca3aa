"""The aggregator on a real broker, registry and Postgres: right sums, late sales, kills, fencing, rebuild."""

import signal
from decimal import Decimal

from sqlalchemy import Engine, text

from retail_stream.settings import Connections
from tests.harness.eventually import eventually
from tests.integration.services.aggregator.world import (
    Aggregators,
    Source,
    assert_all_is_right,
    empty,
    is_drained,
    stored,
)


def test_sales_become_windows_facts_results_and_late_records(
    connections: Connections, warehouse: Engine, aggregators: Aggregators
) -> None:
    source = Source(connections, seed=1)
    source.publish(400, seconds=300)
    process = aggregators.run()
    source.publish(300, seconds=200)
    said = assert_all_is_right(connections, warehouse)
    assert said.late
    with warehouse.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sales_enriched")).scalar_one() > 500
        sums = "SELECT sum(net_sales), sum(transactions) FROM "
        by_category = connection.execute(text(sums + "sales_by_category_window")).one()
        assert by_category == connection.execute(text(sums + "sales_by_product_window")).one()
        assert isinstance(by_category[0], Decimal)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_process_killed_again_and_again_counts_and_publishes_everything_once(
    connections: Connections, warehouse: Engine, aggregators: Aggregators
) -> None:
    source = Source(connections, seed=2)
    process = aggregators.run()
    for _ in range(4):
        source.publish(300, seconds=120)
        before = len(stored(warehouse))
        eventually(lambda before=before: len(stored(warehouse)) > before, "it adds windows")
        source.publish(300, seconds=120)
        process.kill()
        process = aggregators.run()
    assert_all_is_right(connections, warehouse)


def test_two_replicas_and_a_worker_that_was_fenced_leave_the_same_results(
    connections: Connections, warehouse: Engine, aggregators: Aggregators
) -> None:
    source = Source(connections, seed=3)
    aggregators.run()
    source.publish(200)
    aggregators.run()
    assert_all_is_right(connections, warehouse)
    with warehouse.begin() as connection:
        connection.execute(text("UPDATE partition_watermarks SET epoch = epoch + 1"))
        connection.execute(text("UPDATE consumer_positions SET epoch = epoch + 1"))
    source.publish(200)
    assert_all_is_right(connections, warehouse)
    assert "fenced" in aggregators.log()


def test_an_empty_warehouse_beside_the_same_topics_comes_to_the_same_sums_and_late_sales(
    connections: Connections, warehouse: Engine, aggregators: Aggregators
) -> None:
    Source(connections, seed=5).publish(200)
    process = aggregators.run()
    first = assert_all_is_right(connections, warehouse)
    before = stored(warehouse)
    process.kill()
    empty(connections, warehouse)
    aggregators.run()
    again = assert_all_is_right(connections, warehouse)
    assert again.late == first.late
    assert {k: r[:7] for k, r in stored(warehouse).items()} == {k: r[:7] for k, r in before.items()}


def test_other_windows_than_the_stored_state_has_stop_it_with_one_sentence(
    connections: Connections, warehouse: Engine, aggregators: Aggregators
) -> None:
    Source(connections, seed=6).publish(10)
    aggregators.run()
    eventually(lambda: is_drained(connections, warehouse), "everything is in the warehouse")
    assert aggregators.run(SALES_WINDOWS="2m").wait(30) == 2
    assert "SALES_WINDOWS='2m': the warehouse was computed with '10s,1m/20s'" in aggregators.log()
