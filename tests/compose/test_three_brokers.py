"""docker-compose.three-brokers.yml: a broker of three is lost under load, and no caller sees an error of a produce."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from commands.embedded.settings import Ports
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka.reading import read_to_end
from tests.compose.conftest import SETTINGS, Whole
from tests.harness.containers import Project

FILES = ("docker-compose.yml", "docker-compose.three-brokers.yml")
BROKERS = ("kafka", "kafka-2", "kafka-3")
ALONE = {"cleaner": 1, "scd_merger": 1, "aggregator": 1}


class Caller:
    """Publishes all the while, as any client does: acks from all replicas in sync, the client's own retries."""

    def __init__(self, brokers: str) -> None:
        quiet = {"bootstrap.servers": brokers, "log_level": 0, "broker.address.family": "v4"}
        admin = AdminClient(quiet)
        wanted = NewTopic("caller", 4, 3, config={"min.insync.replicas": "2"})
        admin.create_topics([wanted], operation_timeout=30)["caller"].result(30)
        self.acknowledged = 0
        self.errors: list[KafkaError] = []
        self._producer = Producer({**quiet, "acks": "all", "enable.idempotence": True, "message.timeout.ms": 120_000})
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._publish)
        self._thread.start()

    def _publish(self) -> None:
        while not self._enough.wait(0.005):
            self._producer.produce("caller", b"x" * 100, on_delivery=self._delivered)
            self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.errors.append(error)

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()
        assert self._producer.flush(130) == 0, "records are left without an answer"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    others = Ports.free()
    ports = {"KAFKA_2_PORT": str(others.kafka), "KAFKA_3_PORT": str(others.kafka_controller)}
    # What is twice on a topic has then been sent twice.
    once = {"GENERATOR_FAULT_DUPLICATE": "0"}
    project = Project(tmp_path_factory.mktemp("compose"), {**SETTINGS, **ports, **once}, FILES)
    project("build")
    with project.here():
        running = Whole(project)
        running.up(**ALONE)
        running.until(lambda s: s.facts > 0 and s.versions > 0, "the first facts and versions arrive")
        yield running
        running.warehouse.dispose()


@pytest.fixture(scope="module")
def caller(cluster: Whole) -> Iterator[Caller]:
    caller = Caller(cluster.connections.kafka_bootstrap_servers)
    try:
        yield caller
    finally:
        caller.stop()


def test_topics_have_three_replicas_of_which_two_must_have_a_record(cluster: Whole):
    admin = AdminClient({"bootstrap.servers": cluster.connections.kafka_bootstrap_servers})
    for name, topic in admin.list_topics(timeout=10).topics.items():
        assert {len(p.replicas) for p in topic.partitions.values()} == {3}, name
    # The last one is not a topic of `init`.
    for name in ("sales.raw", "generator.state", "__consumer_offsets"):
        asked = ConfigResource(ConfigResource.Type.TOPIC, name)
        assert admin.describe_configs([asked])[asked].result(10)["min.insync.replicas"].value == "2", name


@pytest.mark.parametrize("broker", BROKERS)
def test_while_any_one_broker_is_lost_everything_flows_on(cluster: Whole, caller: Caller, broker: str):
    cluster.flows_on()
    cluster.project("kill", "--signal", "KILL", broker)
    was = caller.acknowledged
    cluster.flows_on()
    assert caller.acknowledged > was
    cluster.again(broker)
    cluster.in_sync()


def test_no_loss_cost_a_record_and_no_caller_saw_an_error(cluster: Whole, caller: Caller):
    caller.stop()
    assert caller.errors == []
    cluster.project("stop", "generator")
    sales = Counter(m.value() for m in read_to_end(cluster.connections, topics.raw(Entity.SALES)))
    assert [sale for sale, times in sales.items() if times > 1] == []
    cluster.until(lambda s: s.drained, "the pipeline drains")
    report = cluster.verify()
    assert report.ok, report.failed
