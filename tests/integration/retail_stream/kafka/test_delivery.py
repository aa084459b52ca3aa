"""Delivery to a real broker that freezes, is killed and lowers its limit."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from aiokafka import client
from aiokafka.errors import LeaderNotAvailableError, UnknownTopicOrPartitionError
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from commands.embedded.servers import Server
from commands.embedded.stack import Stack
from retail_stream.kafka import keepalive
from retail_stream.kafka.delivery import BatchRefused, Delivery, KafkaPartitions, NoSuchPartition
from retail_stream.kafka.limits import largest_batches
from retail_stream.kafka.record_batches.added_headers import alike
from retail_stream.kafka.record_batches.outgoing import build
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.kafka.record_batches.reference import Record
from retail_stream.settings import Connections
from tests.harness.eventually import eventually
from tests.harness.record_batches import batch
from tests.harness.servers import CONTAINERS

pytestmark = pytest.mark.skipif(CONTAINERS, reason="freezes the broker's process")
TOPIC = "delivered"
BATCHES, RECORDS = 400, 5


@pytest.fixture
def connections(own_stack: Stack) -> Connections:
    connections = Connections(**{name.lower(): value for name, value in own_stack.env.items()})  # type: ignore[arg-type]
    admin = AdminClient({"bootstrap.servers": connections.kafka_bootstrap_servers})
    if TOPIC not in admin.list_topics(timeout=30).topics:
        admin.create_topics([NewTopic(TOPIC, 2, 1)])[TOPIC].result(30)
    return connections


def outgoing(number: int) -> bytes:
    """Batch `number` of a partition: five records that carry their source offsets."""
    found = [Record(number * RECORDS + i, 0, b"k", b"v" * 100, ()) for i in range(RECORDS)]
    (columns,) = pieces(record_set("raw", 0, batch(found), 0))
    (made,) = build(
        columns, np.arange(RECORDS), alike(RECORDS, numbers={"source.offset": columns.offset}), 2**20
    ).batches
    return made.encode()


def source_offsets(servers: str, partition: int) -> list[int]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "x", "enable.partition.eof": True})
    consumer.assign([TopicPartition(TOPIC, partition, 0)])
    read = []
    while not (message := consumer.poll(30)).error():
        read.append(int.from_bytes(dict(message.headers() or ())["source.offset"] or b"", "big"))
    consumer.close()
    return read


def without_repeats(offsets: list[int]) -> list[int]:
    """The consumers' rule: what is not larger than the largest before it is a repeat."""
    largest, kept = -1, []
    for offset in offsets:
        if offset > largest:
            kept.append(offset)
            largest = offset
    return kept


@pytest.mark.long
def test_nothing_is_missing_after_a_broker_froze_and_was_killed(own_stack, connections):
    loop_errors: list[object] = []

    sent = 0

    async def send(delivery: Delivery, partition: int) -> None:
        nonlocal sent
        for number in range(BATCHES):
            await delivery.send(TOPIC, partition, outgoing(number))
            sent += 1

    async def until(holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.005)

    async def trouble(delivery: Delivery) -> None:
        await until(lambda: sent >= BATCHES // 4)
        broker = own_stack.pid(Server.KAFKA)
        os.kill(broker, signal.SIGSTOP)
        # Three attempts that get no answer, and may be stored later.
        await until(lambda: delivery.waiting_s > 2.0)
        os.kill(broker, signal.SIGCONT)
        before = sent
        await until(lambda: sent >= before + BATCHES // 4)
        await asyncio.to_thread(own_stack.kill, Server.KAFKA)
        assert sent < 2 * BATCHES
        await asyncio.to_thread(own_stack.start, Server.KAFKA)
        await asyncio.to_thread(own_stack.wait_ready, Server.KAFKA)

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
        partitions = KafkaPartitions(connections, "test", timeout_s=1.0)
        delivery = Delivery(partitions, connections.kafka_bootstrap_servers)
        async with asyncio.timeout(120):
            await asyncio.gather(send(delivery, 0), send(delivery, 1), trouble(delivery))
        assert delivery.waiting_s == 0
        await partitions.stop()

    asyncio.run(run())
    assert loop_errors == []
    for partition in (0, 1):
        read = source_offsets(connections.kafka_bootstrap_servers, partition)
        assert without_repeats(read) == list(range(BATCHES * RECORDS))


def test_a_partition_that_the_topic_does_not_have_yet_is_waited_for_by_its_name(connections):
    admin = AdminClient({"bootstrap.servers": connections.kafka_bootstrap_servers})
    name = "few"
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(30)

    async def run() -> int:
        partitions = KafkaPartitions(connections, "test")
        delivery = Delivery(partitions, connections.kafka_bootstrap_servers)

        async def until_it_is_known() -> None:
            while True:
                with suppress(UnknownTopicOrPartitionError, LeaderNotAvailableError):
                    await partitions.produce(name, 2, outgoing(0))
                # A client that learnt of no leader learns of none, and lets nothing else run, until it asks again.
                await partitions.refresh()

        async with asyncio.timeout(60):
            with pytest.raises(NoSuchPartition):
                await until_it_is_known()
            sending = asyncio.create_task(delivery.send(name, 2, outgoing(0)))
            await asyncio.wait({sending}, timeout=1)
            assert not sending.done()
            admin.create_partitions([NewPartitions(name, 3)])[name].result(30)
            first = await sending
        await partitions.stop()
        return first

    assert asyncio.run(run()) == 0


def test_a_limit_that_was_lowered_refuses_a_batch_and_takes_smaller_ones(connections):
    admin = AdminClient({"bootstrap.servers": connections.kafka_bootstrap_servers})
    lower = ConfigEntry("max.message.bytes", "200", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[lower])
    assert largest_batches(admin, {TOPIC: 7}) == {TOPIC: 1_048_588}
    admin.incremental_alter_configs([resource])[resource].result(30)
    # The broker reads its changed configuration a moment later.
    eventually(lambda: largest_batches(admin, {TOPIC: 7}) == {TOPIC: 200}, "the limit is lower")

    async def run() -> None:
        partitions = KafkaPartitions(connections, "test")
        delivery = Delivery(partitions, connections.kafka_bootstrap_servers)
        large = batch([Record(0, 0, os.urandom(500), b"", ())])
        with pytest.raises(BatchRefused, match=f"{TOPIC} does not take a batch of {len(large)} bytes"):
            await delivery.send(TOPIC, 0, large)
        assert await delivery.send(TOPIC, 0, batch([Record(0, 0, b"k", b"v", ())])) >= 0
        await partitions.stop()

    asyncio.run(run())


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system has other names for it")
def test_every_connection_watches_for_a_machine_that_vanished(connections, monkeypatch):
    monkeypatch.setattr(client, "create_conn", client.create_conn)
    keepalive.install()
    keepalive.install()

    async def run() -> tuple[list[int], list[int]]:
        partitions = KafkaPartitions(connections, "test")
        delivery = Delivery(partitions, connections.kafka_bootstrap_servers)
        await delivery.send(TOPIC, 1, batch([Record(0, 0, b"k", b"v", ())]))
        sockets = [c._writer.get_extra_info("socket") for c in partitions._client._conns.values()]
        watched = [s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for s in sockets]
        silence = [
            s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            + s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            * s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            for s in sockets
        ]
        await partitions.stop()
        return watched, silence

    watched, silence = asyncio.run(run())
    assert watched
    assert all(watched)
    assert set(silence) == {10}
