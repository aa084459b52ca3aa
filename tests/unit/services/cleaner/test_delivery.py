"""What the cleaner sent is delivered when it says so: against librdkafka's own mock broker, which answers slowly."""

import threading
from typing import Any, cast

import pytest
from confluent_kafka import KafkaException, Message, Producer

from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.waiting import Stopped
from services.cleaner import delivery as delivery_module
from services.cleaner.delivery import Delivery
from services.cleaner.forward import Forwarder, NotLearnt
from tests.harness.examples import RAW_ID, examples, schema

#: How long the broker takes to answer.
SLOW = {"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "test.mock.broker.rtt": 300, "log_level": 2}


class Made:
    """Makes one producer and keeps it in view."""

    def __init__(self, **config: Any) -> None:
        self.config = config
        self.producer: Producer

    def __call__(self, **config: Any) -> Producer:
        self.producer = Producer({**SLOW, **self.config, **config})
        return self.producer


class OneSchema:
    """A registry that knows one schema under every subject."""

    def versions(self, subject: str, known: Any = ()) -> dict[int, Any]:
        return {1: (RAW_ID, schema(Entity.SALES, "raw"))}

    def register(self, subject: str, _: Any, compatibility: str) -> int:
        return RAW_ID


def test_finish_returns_when_the_broker_has_everything():
    made = Made()
    delivery = Delivery(made, threading.Event())
    delivery.send("t", 0, [(b"value", b"key", 1, [])] * 100)
    assert len(made.producer) > 0
    delivery.finish()
    assert len(made.producer) == 0


def test_what_can_never_be_delivered_is_raised_and_not_forgotten():
    delivery = Delivery(Made(**{"message.timeout.ms": 50}), threading.Event())
    delivery.send("t", 0, [(b"value", b"key", 1, [])])
    with pytest.raises(KafkaException):
        delivery.finish()


@pytest.mark.parametrize("kind", ["valid", "invalid"])
def test_a_batch_is_delivered_when_it_is_finished_so_that_it_may_be_acknowledged(kind: str):
    made = Made()
    registry = cast("Registry", OneSchema())
    reader = RecordSchema(schema(Entity.SALES, "raw"))
    forwarder = Forwarder(Entity.SALES, registry, Delivery(made, threading.Event()), reader)
    example = next(e for e in examples(kind) if e.entity is Entity.SALES and e.raw.values[0] is not None)
    message = Message(
        topic="sales.raw",
        partition=0,
        offset=3,
        key=example.raw.keys[0],
        value=example.raw.values[0],
        timestamp=(1, example.raw.timestamps[0]),
    )
    with pytest.raises(NotLearnt):
        forwarder.send([message])
    forwarder.learn([RAW_ID])
    sent = forwarder.send([message])
    assert bool(sent.cleaned.rejected) is (kind == "invalid")
    assert len(made.producer) > 0
    forwarder.finish([sent])
    assert len(made.producer) == 0


@pytest.mark.parametrize("room", [1, 1000])
def test_a_stop_ends_the_wait_for_brokers_that_are_away(monkeypatch: pytest.MonkeyPatch, room: int):
    monkeypatch.setattr(delivery_module, "_STOP_S", 0.1)
    made = Made(**{"test.mock.broker.rtt": 60_000, "queue.buffering.max.messages": room})
    stop = threading.Event()
    delivery = Delivery(made, stop)
    threading.Timer(0.2, stop.set).start()

    def deliver() -> None:
        delivery.send("t", 0, [(b"value", b"key", 1, [])] * 100)
        delivery.finish()

    with pytest.raises(Stopped):
        deliver()
