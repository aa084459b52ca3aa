"""Records of other producers' schemas through a running pipeline: each is right in the warehouse or a dead letter.

One pipeline takes all cases. Each case registers a schema and writes a record. Its neighbours in the partition are good
records of our own schema.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2 as httpx
import psycopg
import pytest
from confluent_kafka import Producer

from commands.verify.run import run
from retail_stream import topics
from retail_stream.avro.decode import frame
from retail_stream.avro.registry import Registry
from retail_stream.entities import FIELDS, Entity
from retail_stream.kafka import clients
from retail_stream.kafka.headers import headers_by_name
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.kafka.reading import read
from retail_stream.settings import Connections
from tests.harness.eventually import eventually
from tests.harness.examples import schema
from tests.harness.servers import Servers, connections_of
from tests.harness.services import ServiceProcess, Services
from tests.system.foreign_cases import CASES, MONEY, NEIGHBOURS, NOW_US, Case, example

pytestmark = pytest.mark.long

SERVICES = ("cleaner", "scd_merger", "aggregator")


@dataclass
class World:
    connections: Connections
    start: Callable[[str], ServiceProcess]
    services: dict[str, ServiceProcess]
    registry: Registry
    dead: dict[tuple[Entity, int], dict[str, bytes]]

    def one(self, query: str, *parameters: Any) -> tuple[Any, ...] | None:
        with psycopg.connect(self.connections.database_url) as connection:
            return connection.execute(query, parameters).fetchone()  # type: ignore[arg-type]

    def stored(self, case: Case) -> tuple[Any, ...] | None:
        """Time in microseconds and ``extra`` of a case's record in the warehouse."""
        if case.entity is Entity.SALES:
            table, key, at = "fact_sales", "transaction_id", "event_time"
        else:
            table, key, at = f"pipeline.{case.entity}_changes", FIELDS[case.entity].key, "last_update_time"
        query = f"SELECT (extract(epoch FROM {at}) * 1000000)::bigint, extra FROM {table} WHERE {key} = %s"
        return self.one(query, case.id)


def _registered(world: World, case: Case) -> int:
    """Register as a producer does whose registry checks nothing; references have to be said."""
    subject = f"{topics.raw(case.entity)}-value"
    url = f"{world.connections.schema_registry_url}/subjects/{subject}/versions"
    body = {"schema": json.dumps(case.writer()), "references": case.references}
    answer = httpx.post(url, json=body, timeout=30).json()
    assert "id" in answer, (case.name, answer)
    if case.deleted:
        assert httpx.delete(f"{url}/latest", timeout=30).status_code == 200
    return int(answer["id"])


def _send(world: World, producer: Producer, case: Case, number: int) -> None:
    values = example(case.entity)
    times = {f["name"]: NOW_US for f in schema(case.entity, "raw")["fields"] if isinstance(f["type"], dict)}
    key = FIELDS[case.entity].key
    case.id = number
    numbered = "transaction_id" if case.entity is Entity.SALES else key
    values |= {**times, numbered: number, **case.values}
    value = frame(_registered(world, case), case.body(values))

    def sent(error: object, message: Any) -> None:
        assert error is None
        case.offset = message.offset()

    # One partition: each is between the others.
    producer.produce(topics.raw(case.entity), value, str(values[key]), 0, on_delivery=sent, timestamp=NOW_US // 1000)


@pytest.fixture(scope="module")
def world(empty_stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All cases have been through the pipeline; the services still run."""
    connections = connections_of(empty_stack)
    registry = Registry(connections.schema_registry_url)
    with Services(empty_stack.env, tmp_path_factory.mktemp("logs") / "log") as services:
        made = World(connections, services.start, {}, registry, {})
        for entity in Entity:
            registry.set_mode(f"{topics.raw(entity)}-value", "NONE")
        registry.register("money-value", MONEY)
        producer = clients.producer(connections)
        # What the sales refer to.
        for entity in (Entity.CUSTOMERS, Entity.PRODUCTS, Entity.STORES):
            _send(made, producer, Case("a reference", entity), example(entity)[FIELDS[entity].key])
        half = len(CASES) // 2
        everything = [*NEIGHBOURS[:4], *CASES[:half], *NEIGHBOURS[4:8], *CASES[half:], *NEIGHBOURS[8:]]
        for number, case in enumerate(everything, 1000):
            _send(made, producer, case, number)
        producer.flush(60)
        for name in SERVICES:
            made.services[name] = services.start(name)
        for case in everything:
            if not case.why:
                eventually(partial(made.stored, case), case.name, 120)
        letters = eventually(partial(_dead_letters, connections), "the dead letters", 60)
        made.dead.update(letters or {})
        yield made


def _dead_letters(connections: Connections) -> dict[tuple[Entity, int], dict[str, bytes]] | None:
    places = topic_partitions(connections, *map(topics.dlq, Entity))
    ends = end_offsets(connections, places)
    found: dict[tuple[Entity, int], dict[str, bytes]] = {}
    for batch in read(connections, {place: range(end) for place, end in ends.items()}):
        for m in batch:
            headers = {n: v or b"" for n, v in headers_by_name(m).items()}
            offset = int(headers["__connect.errors.offset"])
            found[Entity(str(m.topic()).partition(".")[0]), offset] = headers
    return found if len(found) >= sum(bool(c.why) for c in CASES) else None


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_record_of_another_schema_is_right_or_a_dead_letter_with_a_sentence(world: World, case: Case) -> None:
    letter = world.dead.get((case.entity, case.offset))
    stored = world.stored(case)
    if case.why:
        assert letter is not None
        assert case.why in letter["__connect.errors.exception.message"].decode()
        assert letter["rules"].decode() == case.rules
        assert stored is None
    else:
        assert letter is None
        assert stored == (NOW_US, case.extra)


def test_a_customer_without_email_has_the_default(world: World) -> None:
    case = next(c for c in CASES if c.name == "customers without email")
    assert world.one("SELECT email FROM dim_customers WHERE customer_id = %s", case.id) == ("Unknown",)


def test_the_neighbours_are_in_the_warehouse_and_no_other_record_is_a_dead_letter(world: World) -> None:
    assert [world.stored(c) for c in NEIGHBOURS] == [(NOW_US, None)] * len(NEIGHBOURS)
    assert set(world.dead) == {(c.entity, c.offset) for c in CASES if c.why}


def test_postgres_reads_every_value_back(world: World) -> None:
    case = next(c for c in CASES if c.name == "what JSON and Postgres cannot hold")
    assert world.one(
        r"""
        SELECT decode(substr(extra->>'bytes', 8), 'hex'), decode(substr(extra->>'nul', 7), 'escape'),
               substr(extra->>'looks', 2), substr(extra->>'nan', 9)::float8::text,
               substr(extra->>'inf', 9)::float8::text,
               to_timestamp(substr(extra->>'at', 19)::numeric / 1000) = '1970-01-01 00:00:00.005Z',
               (SELECT substr(extra->>'rate', 10)::numeric::text FROM fact_sales WHERE extra ? 'rate' LIMIT 1)
        FROM fact_sales WHERE transaction_id = %s
        """,
        case.id,
    ) == (b"\0\x80", b"a\\\0b", "~long:1", "NaN", "-Infinity", True, "1.28")


def test_verify_agrees(world: World) -> None:
    report = run(world.connections)
    assert report.ok, report.failed


def test_a_merger_starts_again_on_what_is_stored(world: World) -> None:
    assert world.services.pop("scd_merger").stop() == 0
    world.services["scd_merger"] = again = world.start("scd_merger")
    eventually(lambda: again.at.ask("/readyz")[0] == 200, again.log, 60, retry_on=OSError)


def test_no_service_has_ended_or_met_an_error(world: World) -> None:
    assert all(s.is_running() for s in world.services.values())
    assert "Traceback" not in world.services["cleaner"].log()
