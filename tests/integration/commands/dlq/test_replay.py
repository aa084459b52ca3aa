"""Dead letters are replayed twice, with consumers killed in between: everything downstream counts them once."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka import Message, TopicPartition
from sqlalchemy import text
from typer.testing import CliRunner

from commands import cli
from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import ProcessGroup
from commands.status import status
from retail_stream import dead_letters as dead_letter
from retail_stream import topics
from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, encode, frame, schema_id
from retail_stream.entities import FIELDS, Entity
from retail_stream.errors import Rejected, Stage, Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import REPLAY_OF, headers_by_name
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.kafka.reading import read_to_end
from retail_stream.rules import published
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import Rule, RuleSet
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result
from retail_stream.warehouse import postgres
from tests.harness.eventually import eventually
from tests.harness.servers import Servers, emptied, own_database
from tests.integration.commands.verify.reports import run as verify

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
LONG_AGO = 1_700_000_000_000_000  # microseconds
AN_HOUR_MS = 3_600_000
CONSUMERS = (Service.SCD_MERGER, Service.AGGREGATOR)
#: Columns in which two warehouses of the same topics may differ.
OWN = ["customer_sk", "product_sk", "store_sk", "revision", "updated_at", "state"]
TABLES = ("dim_customers", "dim_products", "dim_stores", "fact_sales", "sales_by_window", "sales_by_product_window")


class World:
    """The whole pipeline after a bounded run; only the generator has ended."""

    def __init__(self, pipeline: Pipeline, connections: Connections) -> None:
        self.pipeline, self.connections = pipeline, connections
        self.engine = postgres.engine(connections.database_url)
        self.databases = ExitStack()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        def there() -> str:
            logs = {s.value: self.pipeline.log(s).read_text()[-1000:] for s in Service}
            return f"{what}; ended: {self.pipeline.dead()}, {logs}"

        eventually(holds, there, PATIENCE_S, every_s=0.3, retry_on=Unavailable)

    def drain(self) -> None:
        self.until(
            lambda: (
                self.pipeline.dead() == {Service.GENERATOR: 0} and status.look(self.engine, self.connections).drained
            ),
            "drained",
        )

    def sales(self, topic: str) -> list[int]:
        """Transaction ids of the sales on a topic."""
        schema = RecordSchema(topics.topic(topics.clean(Entity.SALES)).schema())
        records = (schema.record(m.value()[HEADER_BYTES:]) for m in read_to_end(self.connections, topic))
        return [record["transaction_id"] for record in records if record is not None]

    def dlq(self, *arguments: str) -> str:
        result = CliRunner().invoke(cli.app, ["dlq", *arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def ends(self, topic: str) -> dict[tuple[str, int], int]:
        return end_offsets(self.connections, topic_partitions(self.connections, topic))

    def replays_of(self, topic: str) -> list[bytes]:
        places = [headers_by_name(m).get(REPLAY_OF) for m in read_to_end(self.connections, topic)]
        return [place for place in places if place is not None]

    def changed(self, entity: Entity, **changes: object) -> tuple[Message, bytes]:
        """The last raw record of an entity, and its value a second later with other fields."""
        last = list(read_to_end(self.connections, topics.raw(entity)))[-1]
        schema = RecordSchema(topics.topic(topics.raw(entity)).schema())
        record = schema.record(last.value()[HEADER_BYTES:])
        assert record is not None
        later = {FIELDS[entity].time: record[FIELDS[entity].time] + 1_000_000}
        number = schema_id(last.value())
        assert number is not None
        return last, frame(number, encode(schema.plain, {**record, **later, **changes}))

    def reject_wrongly(self, entity: Entity, **changes: object) -> str:
        """Publish a raw record that is valid today, and dead-letter it as by a stricter cleaner; returns its origin."""
        last, value = self.changed(entity, **changes)
        partition = last.partition()
        offset = self.ends(topics.raw(entity))[topics.raw(entity), partition]
        producer = clients.producer(self.connections)
        sent = {"key": last.key(), "partition": partition, "timestamp": last.timestamp()[1]}
        producer.produce(topics.raw(entity), value, **sent)
        rejected = Rejected(("was_strict",), Stage.TRANSFORMATION, "not liked then")
        older = RuleSet(entity, (Rule("was_strict", "record_time IS NULL", Action.REJECT, "Nothing was good."),))
        published.publish(self.connections, [older])
        why = dead_letter.headers(topics.raw(entity), partition, offset, rejected, older.version)
        producer.produce(topics.dlq(entity), value, **sent, headers=why)
        assert producer.flush(30) == 0
        group = clients.consumer(self.connections, Group.CLEANER)
        group.commit(offsets=[TopicPartition(topics.raw(entity), partition, offset + 1)], asynchronous=False)
        group.close()
        return f"{entity}.raw/{partition}/{offset}"

    def replay_by_hand(self, entity: Entity, of: str, later_ms: int, **changes: object) -> None:
        """Publish another record with the ``replay.of`` of one that was replayed, as `dlq replay` never does."""
        last, value = self.changed(entity, **changes)
        producer = clients.producer(self.connections)
        producer.produce(
            topics.raw(entity),
            value,
            last.key(),
            partition=int(of.split("/")[1]),
            timestamp=last.timestamp()[1] + later_ms,
            headers=[(REPLAY_OF, of.encode())],
        )
        assert producer.flush(30) == 0

    def contents(self) -> dict[str, list[str]]:
        """The rows of every table, without the columns in OWN."""
        with self.engine.connect() as connection:
            return {
                table: sorted(
                    connection.execute(
                        text(f"SELECT (to_jsonb(t) - CAST(:own AS text[]))::text FROM {table} t"), {"own": OWN}
                    ).scalars()
                )
                for table in (*TABLES, "replays")
            }

    def rebuild(self) -> None:
        """Give the consumers an empty warehouse beside the same topics."""
        for service in CONSUMERS:
            assert self.pipeline.stop(service) == 0
        self.connections = self.databases.enter_context(own_database(self.connections, "rebuilt"))
        self.engine.dispose()
        self.engine = postgres.engine(self.connections.database_url)
        for service in CONSUMERS:
            self.pipeline.start(service, DATABASE_URL=self.connections.database_url)


@pytest.fixture
def world(
    empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    connections = emptied(empty_stack)
    for name, value in empty_stack.env.items():
        monkeypatch.setenv(name, value)
    with ProcessGroup() as group:
        pipeline = Pipeline(group, {**os.environ, **empty_stack.env, **SETTINGS}, tmp_path_factory.mktemp("logs"))
        for service in Service:
            pipeline.start(service)
        made = World(pipeline, connections)
        made.drain()
        yield made
        made.engine.dispose()
    made.databases.close()


def test_a_record_that_is_replayed_twice_counts_once_and_a_bad_one_keeps_its_first_position(world: World):
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
    # Each replay publishes each record once, though the second meets two dead letters of each.
    assert (len(places), len(set(places))) == (2 * discounts, discounts)
    assert first["origin"].encode() in places
    code, report = verify(world.connections)
    assert code == 0, report


@pytest.mark.long
def test_two_replays_in_one_batch_count_once_and_an_empty_warehouse_comes_to_the_same(world: World):
    assert world.pipeline.stop(Service.CLEANER) == 0
    # Too late for every window: without `replay.of` a second one would be late a second time.
    late = world.reject_wrongly(Entity.SALES, transaction_id=NEW_ID, discount_applied=0.0, event_time=LONG_AGO)
    store = world.reject_wrongly(Entity.STORES, manager="Ada Replayed")
    for service in CONSUMERS:
        assert world.pipeline.stop(service) == 0
    world.pipeline.start(Service.CLEANER)
    for _ in range(2):
        world.dlq("replay", "--rule", "was_strict", "--execute")
    # Counted, these would add a sale, move the watermark on by an hour, and add a version.
    world.replay_by_hand(Entity.SALES, late, AN_HOUR_MS, transaction_id=NEW_ID + 1, discount_applied=0.0)
    world.replay_by_hand(Entity.STORES, store, 0, manager="Bob Ignored")
    world.until(lambda: world.replays_of("sales.clean") == [late.encode()] * 3, "the cleaner passes all three sales")
    world.until(lambda: world.replays_of("stores.clean") == [store.encode()] * 3, "the cleaner passes all three stores")
    for service in CONSUMERS:
        world.pipeline.start(service)
    world.drain()

    assert world.sales(Result.LATE).count(NEW_ID) == 1
    first = world.contents()
    assert [sum(str(n) in row for row in first["fact_sales"]) for n in (NEW_ID, NEW_ID + 1)] == [1, 0]
    assert [sum(n in row for row in first["dim_stores"]) for n in ("Ada Replayed", "Bob Ignored")] == [1, 0]
    assert len(first["replays"]) == 2
    code, report = verify(world.connections)
    assert code == 0, report

    world.rebuild()
    # Kafka's committed offsets, which decide `drained`, are ahead of an empty warehouse.
    world.until(lambda: world.contents() == first, "the empty warehouse comes to the same")
    world.drain()
    code, report = verify(world.connections)
    assert code == 0, report
