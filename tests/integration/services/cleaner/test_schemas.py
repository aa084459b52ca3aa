"""Several writer schemas in one batch, foreign ids, newer schemas, a registry that is away: in a running cleaner."""

import os
import subprocess
import sys
from typing import Any

from commands.embedded.servers import Server
from retail_stream import topics
from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, encode, frame, schema_id
from retail_stream.dead_letters import Header
from retail_stream.entities import Entity
from retail_stream.kafka.headers import headers_by_name
from tests.harness.eventually import eventually
from tests.harness.services import ROOT
from tests.integration.services.cleaner.world import (
    CLEAN,
    GOOD,
    RAW,
    World,
    assert_nothing_lost_or_invented,
    good_key,
    rules,
)


def extended(schema: dict[str, Any], field: str) -> dict[str, Any]:
    """A newer version with one more field, optional."""
    more = {"name": field, "type": ["null", "string"], "default": None}
    return {**schema, "fields": [*schema["fields"], more]}


def newer(world: World, entity: Entity, field: str, **values: Any) -> bytes:
    """A good record of a newer schema, which is registered by this."""
    schema = extended(dict(RAW[entity].schema), field)
    number = world.registry.register(f"{topics.raw(entity)}-value", schema)
    assert number != world.ids[entity]
    return frame(number, encode(RecordSchema(schema).plain, {**GOOD[entity], **values}))


def test_sales_of_several_schemas_in_one_batch_are_judged_each_by_its_own(world: World):
    old, new = world.value(Entity.SALES), newer(world, Entity.SALES, "channel", channel="app")
    worse = newer(world, Entity.SALES, "channel", channel="app", discount_applied=-1.0)
    # In the registry, but another subject's; and in nobody's.
    foreign, unknown = frame(world.ids[Entity.STORES], old[HEADER_BYTES:]), frame(2**31 - 7, old[HEADER_BYTES:])
    world.send(Entity.SALES, old, new, foreign, old, new[:-1], unknown, worse, new)
    cleaner = world.started()
    world.drain()
    assert cleaner.metrics()["cleaner_batch_records_count"] == 1
    out = world.outcome()
    assert_nothing_lost_or_invented(out)
    # The raw and the clean schema are one text, so that their bytes pass as they came, also those of the newer one.
    assert [m.value() for _, m in out.clean] == [old, new, old, new]
    assert [m.value() for _, m in out.dead] == [foreign, new[:-1], unknown, worse]
    assert [rules(m) for _, m in out.dead] == [
        {"valid_avro"},
        {"valid_avro"},
        {"valid_avro"},
        {"discount_not_negative"},
    ]
    why = [headers_by_name(m)[Header.MESSAGE].decode() for _, m in out.dead]
    assert [("not registered under the topic's subject" in w) for w in why] == [True, False, True, False]


def test_a_field_that_a_newer_customer_has_is_kept_beside_the_default_of_another(world: World):
    world.started()
    old = world.value(Entity.CUSTOMERS, email=None)
    world.send(Entity.CUSTOMERS, old, newer(world, Entity.CUSTOMERS, "tier", tier="gold", email=None))
    world.drain()
    out = world.outcome()
    assert_nothing_lost_or_invented(out)
    first, second = (m.value() for _, m in out.clean)
    expected = {**GOOD[Entity.CUSTOMERS], "email": "Unknown"}
    assert CLEAN[Entity.CUSTOMERS].record(first[HEADER_BYTES:]) == expected
    assert schema_id(first) == world.clean_ids[Entity.CUSTOMERS]
    # Registered under the clean subject before it was forwarded.
    versions = dict(world.registry.versions(f"{topics.clean(Entity.CUSTOMERS)}-value").values())
    schema = versions[schema_id(second) or 0]
    assert schema == extended(dict(CLEAN[Entity.CUSTOMERS].schema), "tier")
    assert RecordSchema(schema).record(second[HEADER_BYTES:]) == {**expected, "tier": "gold"}


def test_a_new_id_that_comes_while_the_registry_is_away_is_waited_for_and_not_rejected(world: World):
    new = newer(world, Entity.PRODUCTS, "season", season="spring")
    world.started()
    known = world.value(Entity.STORES)
    world.send(Entity.STORES, known)
    world.drain()
    world.stack.kill(Server.REGISTRY)
    try:
        world.send(Entity.PRODUCTS, new)
        eventually(lambda: "schema registry" in world.log.read_text(), "it says what it waits for")
        # Others go on meanwhile.
        world.send(Entity.STORES, known)
        eventually(lambda: world.delivered(Entity.STORES) == 2, "the store passes")
        assert world.outcome().dead == []
        assert world.delivered(Entity.PRODUCTS) == 0
    finally:
        world.stack.start(Server.REGISTRY)
        world.stack.wait_ready(Server.REGISTRY)
    world.drain()
    out = world.outcome()
    assert_nothing_lost_or_invented(out)
    assert new in [m.value() for _, m in out.clean]
    assert out.dead == []


# aiokafka's pure Python writer encodes a name as it is told to; librdkafka, from Python, takes only text.
_SEND = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

class Latin(str):
    def encode(self, *_):
        return b"gr\\xfc\\xdfe"

async def main(servers, topic, key, value):
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    await producer.send_and_wait(topic, bytes.fromhex(value), key=key.encode(), partition=0, headers=[(Latin(), b"")])
    await producer.stop()

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_header_whose_name_is_no_utf8_costs_its_record_only(world: World):
    cleaner = world.started()
    good = world.value(Entity.SALES)
    servers = world.connections.kafka_bootstrap_servers
    subprocess.run(
        [sys.executable, "-c", _SEND, servers, topics.raw(Entity.SALES), good_key(Entity.SALES).decode(), good.hex()],
        env={**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"},
        cwd=ROOT,
        check=True,
    )
    world.send(Entity.SALES, good)
    world.drain()
    assert cleaner.stop() == 0
    out = world.outcome()
    assert [(m.value(), m.key()) for _, m in out.clean + out.dead] == [(good, good_key(Entity.SALES))] * 2
    assert [rules(m) for _, m in out.dead] == [{"headers_readable"}]
