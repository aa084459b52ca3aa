"""The relay, whose results a broker does not take."""

import threading
from datetime import datetime

import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from retail_stream.settings import Connections
from retail_stream.topics import Result
from retail_stream.warehouse import postgres
from services.aggregator import metrics
from services.aggregator.relay import Relay
from tests.harness.eventually import eventually


@pytest.mark.parametrize("knows_the_topic", [False, True])
def test_a_result_that_its_topic_cannot_take_is_named_once_and_waits(
    connections: Connections, warehouse: Engine, knows_the_topic: bool
) -> None:
    def result(partition: int) -> None:
        with warehouse.begin() as connection:
            connection.execute(
                text("INSERT INTO outbox (topic, partition, headers, timestamp_ms) VALUES (:topic, :p, '[]', 0)"),
                {"topic": Result.LATE, "p": partition},
            )

    stop = threading.Event()
    engine = postgres.service_engine(connections.database_url, "outbox", stop)
    relay = Relay(connections, engine, stop)
    thread = threading.Thread(target=relay.run)
    leaders: set[datetime] = set()

    def tries_again() -> bool:
        with warehouse.connect() as connection:
            query = "SELECT backend_start FROM pg_stat_activity WHERE application_name = 'retail_stream.outbox'"
            leaders.update(connection.execute(text(query)).scalars())
        return len(leaders) > 2

    def is_published() -> bool:
        with warehouse.connect() as connection:
            return connection.execute(text("SELECT count(*) FROM outbox")).scalar_one() == 0

    with capture_logs() as logs:
        # A producer that has published to the topic refuses the next record itself; another learns it from the broker.
        result(0 if knows_the_topic else 99)
        thread.start()
        try:
            if knows_the_topic:
                eventually(is_published, "the first is published")
                result(99)
            eventually(tries_again, "it tries again")
            eventually(lambda: metrics.OUTBOX.read() == {(): 1}, "it is counted")
            assert metrics.OLDEST.read()[()] > 0
            warnings = [line["why"] for line in logs if line["event"] == "waiting"]
            with warehouse.begin() as connection:
                connection.execute(text("UPDATE outbox SET partition = 0"))
            eventually(is_published, "it is published")
        finally:
            stop.set()
            relay.wake.set()
            thread.join(60)
            engine.dispose()
    assert warnings == [
        f"Results stay in the outbox. Kafka at {connections.kafka_bootstrap_servers} does not store records of "
        f"{Result.LATE}/99: Local: Unknown partition."
    ]
    assert [line["event"] for line in logs].count("answered") == 1


def test_a_warehouse_that_was_restored_publishes_nothing_under_numbers_that_are_taken(
    connections: Connections, warehouse: Engine
) -> None:
    def result(value: bytes) -> None:
        insert = "INSERT INTO outbox (topic, partition, value, headers, timestamp_ms) VALUES (:topic, 0, :v, '[]', 0)"
        with warehouse.begin() as connection:
            connection.execute(text(insert), {"topic": Result.LATE, "v": value})

    def waiting() -> int:
        with warehouse.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM outbox")).scalar_one())

    stop = threading.Event()
    engine = postgres.service_engine(connections.database_url, "outbox", stop)
    relay = Relay(connections, engine, stop)
    result(b"one")
    with capture_logs() as logs:
        thread = threading.Thread(target=relay.run)
        thread.start()
        try:
            eventually(lambda: waiting() == 0, "it is published")
            with warehouse.begin() as connection:  # as a backup from before that result has it
                connection.execute(text("ALTER SEQUENCE outbox_id_seq RESTART"))
                connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"),
                    {"name": "retail_stream.outbox"},
                )
            eventually(lambda: any("restored from a backup" in str(line.get("why")) for line in logs), "it says so")
            result(b"another")
            eventually(lambda: metrics.OUTBOX.read() == {(): 1}, "it looks at the outbox again")
        finally:
            stop.set()
            relay.wake.set()
            thread.join(60)
            engine.dispose()
    assert waiting() == 1, "the new result is not taken for the one that is published"
