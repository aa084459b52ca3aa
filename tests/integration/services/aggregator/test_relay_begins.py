"""How far the relay looks back: after a rebuild, topics may hold the results of years."""

import time

from sqlalchemy import text

from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets
from retail_stream.topics import Result
from retail_stream.warehouse import postgres
from services.aggregator import relay
from tests.harness.eventually import PATIENCE_S
from tests.harness.servers import Servers, connections_of


def test_a_new_warehouse_reads_no_results_from_before_it(empty_stack: Servers) -> None:
    connections = connections_of(empty_stack)
    warehouse = postgres.engine(connections.database_url)

    def warehouse_id() -> str:
        with warehouse.connect() as connection:
            return str(connection.execute(text("SELECT id FROM warehouse_id")).scalar_one())

    producer = clients.producer(connections)
    now_ms = time.time_ns() // 1_000_000
    of_another = [now_ms - 100_000_000] * 200 + [now_ms]
    for timestamp in of_another:
        producer.produce(Result.WINDOWS, b"", partition=0, headers=[("outbox.id", b"other/1")], timestamp=timestamp)
    assert producer.flush(PATIENCE_S) == 0
    first = relay.begins(connections, warehouse_id())
    end = end_offsets(connections, [(Result.WINDOWS, 0)])[Result.WINDOWS, 0]
    assert first[Result.WINDOWS, 0] == end - 1
    assert not any(topic == Result.LATE for topic, _ in first), "a late sale has the time of its record"
    # A warehouse of an earlier release does not tell when it began.
    with warehouse.begin() as connection:
        connection.execute(text("UPDATE warehouse_id SET id = gen_random_uuid()"))
    assert relay.begins(connections, warehouse_id()) == {}
    warehouse.dispose()
