"""Dead letters put back: twice, with consumers killed in between, and everything downstream counts them once."""

import json
import os
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition
from sqlalchemy import text
from typer.testing import CliRunner

from retail_stream import cli, kafka, postgres, status, topics
from retail_stream.dlq import headers as dead_letter
from retail_stream.embedded.processes import ProcessGroup
from retail_stream.entities import FIELDS, Entity
from retail_stream.kafka import REPLAY_OF
from retail_stream.pipeline import Pipeline, Service
from retail_stream.registry import Registry
from retail_stream.settings import Connections
from retail_stream.topics import SCHEMAS, Group
from retail_stream.wire import HEADER_BYTES, Writer, encode, frame, schema_id

from ..servers import initialised, private_stack
from .test_verify import run as verify

PATIENCE_S = 120
SETTINGS = {
    "GENERATOR_SEED": "11",
    "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
    "GENERATOR_MAX_SALES": "600",
    "GENERATOR_SALES_PER_S": "0",
    "GENERATOR_CHANGES_PER_S": "0",
    "SALES_WINDOWS": "1m",
    "ALLOWED_LATENESS_S": "5",
}
NEW_ID = 10**12 + 1


class World:
    """The whole pipeline after a bounded run; only the generator has ended."""

    def __init__(self, pipeline: Pipeline, connections: Connections) -> None:
        self.pipeline, self.connections = pipeline, connections
        self.engine = postgres.engine(connections.database_url)

    def drain(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not (
            self.pipeline.dead() == {Service.GENERATOR: 0} and status.look(self.engine, self.connections).drained
        ):
            logs = {s.value: self.pipeline.log(s).read_text()[-1000:] for s in Service}
            assert time.monotonic() < deadline, f"not drained, ended: {self.pipeline.dead()}, {logs}"
            time.sleep(0.3)

    def dlq(self, *arguments: str) -> str:
        result = CliRunner().invoke(cli.app, ["dlq", *arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    def ends(self, topic: str) -> dict[tuple[str, int], int]:
        return kafka.end_offsets(self.connections, kafka.partitions(self.connections, topic))

    def replays_of(self, topic: str) -> list[bytes]:
        found = [kafka.headers(m).get(REPLAY_OF) for m in kafka.read_to_end(self.connections, topic)]
        return [place for place in found if place is not None]

    def reject_wrongly(self, entity: Entity, **changes: object) -> str:
        """A raw record that is good today, dead-lettered by a cleaner with stricter rules; returns its place."""
        last = list(kafka.read_to_end(self.connections, topics.raw(entity)))[-1]
        writer = Writer(json.loads((SCHEMAS / "raw" / f"{entity}.avsc").read_text()))
        record = writer.record(last.value()[HEADER_BYTES:])
        assert record is not None
        number = schema_id(last.value())
        assert number in {
            i for i, _ in Registry(self.connections.schema_registry_url).versions(f"{entity}.raw-value").values()
        }
        later = {FIELDS[entity].time: record[FIELDS[entity].time] + 1_000_000}
        value = frame(number, encode(writer.plain, {**record, **later, **changes}))
        partition = last.partition()
        offset = self.ends(topics.raw(entity))[topics.raw(entity), partition]
        producer = kafka.producer(self.connections)
        sent = {"key": last.key(), "partition": partition, "timestamp": last.timestamp()[1]}
        producer.produce(topics.raw(entity), value, **sent)
        why = dead_letter.headers(
            topics.raw(entity), partition, offset, "TRANSFORMATION", ["was_strict"], "older", "not liked then"
        )
        producer.produce(topics.dlq(entity), value, **sent, headers=why)
        assert producer.flush(30) == 0
        group = kafka.consumer(self.connections, Group.CLEANER)
        group.commit(offsets=[TopicPartition(topics.raw(entity), partition, offset + 1)], asynchronous=False)
        group.close()
        return f"{entity}.raw/{partition}/{offset}"


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with private_stack(tmp_path_factory) as stack:
        connections = initialised(stack)
        for name, value in stack.env.items():
            monkeypatch.setenv(name, value)
        with ProcessGroup() as group:
            pipeline = Pipeline(group, {**os.environ, **stack.env, **SETTINGS}, stack.home.logs)
            for service in Service:
                pipeline.start(service)
            made = World(pipeline, connections)
            made.drain()
            yield made
            made.engine.dispose()


def test_what_is_replayed_twice_counts_once_and_what_is_still_bad_comes_back_under_its_first_name(world: World):
    assert world.pipeline.stop(Service.CLEANER) == 0
    sale = world.reject_wrongly(Entity.SALES, transaction_id=NEW_ID, discount_applied=0.0, quantity=1)
    store = world.reject_wrongly(Entity.STORES, manager="Ada Replayed")
    world.pipeline.start(Service.CLEANER)
    world.drain()

    shown = [json.loads(line) for line in world.dlq("show", "--rule", "was_strict", "--json").splitlines()]
    assert {s["origin"] for s in shown} == {sale, store}
    assert next(s for s in shown if s["entity"] == "sales")["value"]["transaction_id"] == NEW_ID

    before = world.ends("sales.raw")
    assert "Nothing was published" in world.dlq("replay", "--rule", "was_strict")
    assert world.ends("sales.raw") == before

    world.dlq("replay", "--rule", "was_strict", "--execute")
    world.drain()
    for service in (Service.SCD_MERGER, Service.AGGREGATOR):
        world.pipeline.processes[service].kill()
        world.pipeline.processes[service].wait()
        world.pipeline.start(service)
    world.dlq("replay", "--rule", "was_strict", "--execute")
    world.drain()
    assert world.replays_of("sales.clean") == [sale.encode()] * 2
    assert world.replays_of("stores.clean") == [store.encode()] * 2
    with world.engine.connect() as connection:
        facts = connection.execute(text("SELECT count(*) FROM fact_sales WHERE transaction_id = :id"), {"id": NEW_ID})
        assert facts.scalar_one() == 1
        versions = connection.execute(text("SELECT count(*) FROM dim_stores WHERE manager = 'Ada Replayed'"))
        assert versions.scalar_one() == 1
        seen = connection.execute(text("SELECT consumer_group, replay_of FROM replays")).all()
        assert {(g, bytes(r).decode()) for g, r in seen} == {("aggregator", sale), ("scd_merger", store)}

    first = json.loads(world.dlq("show", "--rule", "discount_not_negative", "--json", "--limit", "1"))
    discounts = world.dlq("show", "--rule", "discount_not_negative", "--json", "--limit", "1000").count("\n")
    for _ in range(2):
        world.dlq("replay", "--rule", "discount_not_negative", "--execute")
        world.drain()
    places = world.replays_of("sales.dlq")
    assert discounts > 1
    assert (len(places), len(set(places))) == (3 * discounts, discounts)
    assert first["origin"].encode() in places
    code, told = verify(world.connections)
    assert code == 0, told
