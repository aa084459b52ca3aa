"""A stream that goes quiet fires its windows; an outage upstream does not look quiet."""

from confluent_kafka import TopicPartition
from sqlalchemy import Engine, text

from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets
from retail_stream.settings import Connections
from retail_stream.topics import Result
from tests.harness.eventually import eventually
from tests.integration.services.aggregator.world import (
    RULES,
    Aggregators,
    Source,
    assert_all_is_right,
    empty,
    is_drained,
    published,
)


def watermark(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(text("SELECT extract(epoch FROM watermark)*1000000 FROM stream_watermark")).scalar_one()
        )


def commit_as_cleaner(connections: Connections, offsets: dict[int, int]) -> None:
    consumer = clients.consumer(connections, "cleaner")
    consumer.commit(offsets=[TopicPartition("sales.raw", p, o) for p, o in offsets.items()], asynchronous=False)
    consumer.close()


def test_a_quiet_stream_fires_its_windows_and_an_outage_upstream_is_not_quiet(
    connections: Connections, warehouse: Engine, aggregators: Aggregators
) -> None:
    source = Source(connections, seed=4)
    source.publish(100)
    raw = clients.producer(connections)
    raw.produce("sales.raw", value=b"not read by any cleaner yet", partition=0)
    raw.flush(10)
    process = aggregators.run(IDLE_TIMEOUT_S="1")

    def idle_partitions() -> set[int]:
        with warehouse.connect() as connection:
            return set(connection.execute(text("SELECT partition FROM partition_watermarks WHERE idle")).scalars())

    everything = set(range(source.partitions))
    eventually(lambda: is_drained(connections, warehouse), "everything is in the warehouse")
    ends = end_offsets(connections, [("sales.raw", p) for p in everything])
    commit_as_cleaner(connections, {p: end for (_, p), end in ends.items() if p != 0})
    eventually(lambda: idle_partitions() == everything - {0}, "all but one are idle")
    newest = source.now
    assert watermark(warehouse) <= newest - RULES.delay
    commit_as_cleaner(connections, {0: ends["sales.raw", 0]})
    eventually(lambda: idle_partitions() == everything, "all are idle")
    eventually(lambda: watermark(warehouse) > newest, "the watermark goes on")
    source.publish(100)
    # The stream goes on while one looks: windows may fire between two queries.
    said = eventually(lambda: assert_all_is_right(connections, warehouse), "all is right", retry_on=AssertionError)
    rises = published(connections, warehouse, Result.WATERMARKS)
    assert {h["partition"] for h, _ in rises} <= {str(p) for p in everything}
    assert rises
    assert said.rows

    process.kill()
    empty(connections, warehouse)
    aggregators.run()
    again = assert_all_is_right(connections, warehouse)
    assert again.late == said.late, "a rebuild judges by the rises that idleness caused"
