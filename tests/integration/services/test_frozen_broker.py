"""A broker that freezes (SIGSTOP) at the worst moments: merger and aggregator lose nothing and go on by themselves.

Both run, as their membership is the same; a frozen broker answers nothing and closes no connection. A frozen Postgres
does not keep them from a stop.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from sqlalchemy import text

from commands.embedded.servers import Server
from retail_stream.errors import Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SEQUENCE_TIME, as_big_endian
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.warehouse import postgres
from tests.harness import servers
from tests.harness.eventually import eventually
from tests.harness.groups import remove_members
from tests.harness.servers import Servers
from tests.harness.services import Services, servers_of
from tests.integration.services.aggregator.world import Source

pytestmark = pytest.mark.skipif(servers.CONTAINERS, reason="it freezes embedded servers")
SESSION_S = 3
#: Freezes are longer than a session and than a request; the contract gives 30 s after them.
SHORT_S, LONG_S, WITHIN_S = 13.0, 45.0, 30.0
MERGER, AGGREGATOR = "scd_merger", "aggregator"
TOPICS = {MERGER: "products.clean", AGGREGATOR: "sales.clean"}


class Pair(Services):
    """A merger and an aggregator on one warehouse, and what they have still to read."""

    def __init__(self, stack: Servers, log: Path) -> None:
        self.stack, self.connections = stack, servers.connections_of(stack)
        super().__init__({**servers_of(self.connections), "KAFKA_SESSION_TIMEOUT_S": str(SESSION_S)}, log)
        self.engine = postgres.engine(self.connections.database_url)
        # After a freeze a broker may not know the present leader epochs for a moment.
        self.source = eventually(
            lambda: Source(self.connections, seed=1), "the topics can be read", retry_on=Unavailable
        )
        self.deletes = 0

    def begin(self) -> None:
        for service in (MERGER, AGGREGATOR):
            self.start(service)

    def publish(self) -> None:
        """Clean records for both, in every partition."""
        self.source.publish(100)
        producer = clients.producer(self.connections)
        for _ in range(100):
            self.deletes += 1
            producer.produce(
                TOPICS[MERGER],
                key=str(self.deletes).encode(),
                partition=self.deletes % 4,
                headers=[(SEQUENCE_TIME, as_big_endian(self.deletes)), ("source.offset", as_big_endian(self.deletes))],
            )
        assert producer.flush(60) == 0

    def ready(self) -> list[bool]:
        return [service.at.ask("/readyz")[0] == 200 for service in self.started]

    def is_drained(self) -> bool:
        assert all(service.is_running() for service in self.started)
        ends = end_offsets(self.connections, topic_partitions(self.connections, *TOPICS.values()))
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT topic, partition, next_offset FROM consumer_positions")).all()
        stored = {(topic, partition): offset for topic, partition, offset in rows}
        return all(stored.get(place, 0) >= end for place, end in ends.items())

    @contextmanager
    def frozen(self, server: Server = Server.KAFKA) -> Iterator[None]:
        """Freeze a server, its child processes included."""
        parent = self.stack.pid(server)  # type: ignore[attr-defined]
        os.kill(parent, signal.SIGSTOP)
        frozen = [parent, *map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)

    def freeze(self, seconds: float) -> None:
        """Freeze the broker for so long; both notice it."""
        with self.frozen():
            until = time.monotonic() + seconds
            eventually(lambda: not any(self.ready()), lambda: f"neither is ready: {self.ready()}", 12)
            eventually(lambda: time.monotonic() > until, "the freeze is over", seconds + 1)

    def stops_in_time(self) -> None:
        """Both notice that a server does not answer; told to stop then, they end within their grace period."""
        eventually(lambda: not any(self.ready()), "both have noticed", 12)
        until = time.monotonic() + 15
        for service in self.started:
            service.send_signal(signal.SIGTERM)
        assert [service.wait(max(0.1, until - time.monotonic())) for service in self.started] == [0, 0]

    def goes_on(self) -> None:
        """Both read on, within the time that the contract gives, and say that they are ready."""
        self.publish()
        eventually(self.is_drained, self.log, WITHIN_S, every_s=0.5, retry_on=Unavailable)
        eventually(lambda: all(self.ready()), lambda: f"both are ready: {self.ready()}", WITHIN_S, every_s=0.5)


freezes = pytest.mark.parametrize("freeze_s", [SHORT_S, LONG_S])


@pytest.fixture
def pair(empty_stack: Servers, tmp_path: Path) -> Iterator[Pair]:
    with Pair(empty_stack, tmp_path / "services.log") as running:
        yield running
        running.engine.dispose()


def test_while_they_join(pair: Pair) -> None:
    pair.publish()
    pair.begin()
    eventually(lambda: pair.log().count(" starts ") == 2, pair.log, 60)
    pair.freeze(SHORT_S)
    pair.goes_on()


@pytest.mark.long
@freezes
def test_right_after_an_assignment(pair: Pair, freeze_s: float) -> None:
    pair.publish()
    pair.begin()
    eventually(lambda: pair.log().count(" assigned ") == 2, pair.log, 60, every_s=0.01)
    pair.freeze(freeze_s)
    pair.goes_on()


@pytest.mark.long
def test_between_heartbeats_of_quiet_members_and_a_stop_in_it_ends_in_time(pair: Pair) -> None:
    pair.begin()
    pair.goes_on()
    before = pair.log().count("does not answer")
    pair.freeze(SHORT_S)
    said = pair.log().count("does not answer") - before
    assert 2 <= said <= 4, "a sentence each 30 s: of each member, and of the aggregator's outbox"
    pair.goes_on()
    with pair.frozen():
        pair.stops_in_time()


@pytest.mark.long
def test_a_stop_while_both_wait_for_a_frozen_postgres_ends_in_time_and_loses_nothing(pair: Pair) -> None:
    pair.begin()
    pair.goes_on()
    with pair.frozen(Server.POSTGRES):
        pair.publish()
        pair.stops_in_time()
    pair.started.clear()
    pair.begin()
    pair.goes_on()


@pytest.mark.long
@freezes
def test_while_records_and_commits_flow(pair: Pair, freeze_s: float) -> None:
    pair.begin()
    pair.goes_on()
    for _ in range(3):
        pair.publish()
    pair.freeze(freeze_s)
    pair.goes_on()


def test_members_that_the_group_removed_join_again(pair: Pair) -> None:
    pair.begin()
    pair.goes_on()
    remove_members(clients.admin(pair.connections), pair.connections.kafka_bootstrap_servers, MERGER, AGGREGATOR)
    eventually(lambda: pair.log().count(" assigned ") == 4, pair.log, WITHIN_S)
    pair.goes_on()


def test_a_foreign_member_with_another_assignor_is_outlived(pair: Pair) -> None:
    others = [
        clients.consumer(pair.connections, group, **{"partition.assignment.strategy": "cooperative-sticky"})
        for group in TOPICS
    ]
    try:
        for other, topic in zip(others, TOPICS.values(), strict=True):
            other.subscribe([topic])
            eventually(lambda other=other: has_a_share(other), "it has a share")
        pair.begin()
        eventually(lambda: pair.log().count("refuses a member of the group") == 2, pair.log, 60)
        assert pair.ready() == [False, False]
    finally:
        for other in others:
            other.close()
    pair.goes_on()


def has_a_share(member: Consumer) -> bool:
    member.poll(0.1)
    return bool(member.assignment())
