"""An aggregator that waits for the lock of the stream: behind one that froze, and at its own stop."""

import signal
import threading

import pytest
from sqlalchemy import Engine, text

from retail_stream.errors import Unavailable
from retail_stream.settings import Connections
from retail_stream.warehouse import postgres
from services.aggregator.warehouse import lock
from tests.harness.eventually import eventually
from tests.integration.services.aggregator.world import Aggregators, Source, assert_all_is_right, is_drained


@pytest.mark.parametrize("within_a_copy", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_replica_that_froze_with_the_lock_does_not_stop_the_others(
    connections: Connections, warehouse: Engine, aggregators: Aggregators, within_a_copy: bool
) -> None:
    Source(connections, seed=7).publish(50)
    frozen = postgres.service_engine(connections.database_url, "aggregator", threading.Event()).connect()
    lock(frozen, "sales.clean")
    if within_a_copy:
        copying = postgres.cursor(frozen).copy("COPY replayed_rises FROM STDIN")
        copying.__enter__()
    aggregators.run()
    assert_all_is_right(connections, warehouse)
    with pytest.raises(Unavailable), postgres.outages(warehouse):
        copying.__exit__(None, None, None) if within_a_copy else frozen.execute(text("SELECT 1"))
    frozen.invalidate()


def test_a_lock_that_a_peer_keeps_for_long_is_waited_for_with_the_batch_in_hand(
    connections: Connections, warehouse: Engine, aggregators: Aggregators
) -> None:
    source = Source(connections, seed=9)
    source.publish(50)
    aggregators.run()
    eventually(lambda: is_drained(connections, warehouse), "everything is in the warehouse")
    with warehouse.begin() as peer:
        lock(peer, "sales.clean")
        source.publish(50)
        eventually(lambda: "another session keeps a lock" in aggregators.log(), "it waits for the lock")
    assert_all_is_right(connections, warehouse)
    assert "reads again from the stored positions" not in aggregators.log()
    assert "joins the group again" not in aggregators.log()


def test_a_stop_ends_the_wait_for_a_lock(connections: Connections, warehouse: Engine, aggregators: Aggregators) -> None:
    Source(connections, seed=8).publish(10)
    process = aggregators.run()
    eventually(lambda: is_drained(connections, warehouse), "everything is in the warehouse")
    with warehouse.begin() as other:
        lock(other, "sales.clean")
        eventually(lambda: "another session keeps a lock" in aggregators.log(), "it waits for the lock")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
