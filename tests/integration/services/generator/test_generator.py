"""The generator as a program; its raw topics start empty."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from commands.embedded.servers import Server
from commands.init import InitSettings
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.kafka.clients import admin
from retail_stream.kafka.offsets import committed_offsets
from services.generator.retailer.partitions import partition_of
from tests.harness.eventually import eventually
from tests.harness.rows import every_row
from tests.harness.servers import Servers
from tests.integration.services.generator.world import (
    CLEAN,
    ID,
    READERS,
    count,
    emptied,
    empty_topics,
    generator,
    ledger,
    logged,
    places,
    read,
    rows,
    run,
    sales_arrive,
)


@pytest.fixture
def connections(empty_stack: Servers) -> InitSettings:
    """Servers with empty topics."""
    return emptied(empty_stack)


@pytest.mark.long
def test_the_same_seed_and_start_make_the_same_topics(connections: InitSettings, tmp_path: Path) -> None:
    fixed = {
        "GENERATOR_PROFILE": "hostile",
        "GENERATOR_SEED": "7",
        "GENERATOR_START_TIME": "2026-03-01T08:00:00Z",
        "GENERATOR_MAX_SALES": "3000",
    }
    contents = []
    for _ in range(2):
        empty_topics(connections)
        run(connections, tmp_path / "log", **fixed, GENERATOR_SALES_PER_S="0")
        entries = [{k: v for k, v in entry.items() if k != "offset"} for entry in ledger(connections)]
        contents.append(({e: read(connections, e) for e in Entity}, entries))
    assert contents[0] == contents[1]
    assert {entry["entity"] for entry in contents[0][1]} == set(Entity)
    assert len(contents[0][0][Entity.SALES]) == 3000


def test_a_restart_goes_on_with_ids_and_state(connections: InitSettings, tmp_path: Path) -> None:
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="1500", **CLEAN)
    before = {e: read(connections, e) for e in Entity}
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="1500", **CLEAN)
    after = {e: read(connections, e) for e in Entity}

    # A silence of one partition relies on the partition that the broker chooses for a store.
    assert all(r.partition == partition_of(r.key, 4) for records in after.values() for r in records)
    sales = [row["transaction_id"] for row in rows(Entity.SALES, after[Entity.SALES])]
    assert sorted(sales) == list(range(1, 3001))
    started = logged(tmp_path / "log", "generator starts")[1]
    assert started["next_sale"] == 1501
    for entity, fixed in ((Entity.CUSTOMERS, "join_date"), (Entity.PRODUCTS, "brand"), (Entity.STORES, "open_date")):
        largest = max(int(r.key) for r in before[entity])
        assert started[f"next_{entity}"] == largest + 1
        assert len({(row[ID[entity]], row[fixed]) for row in rows(entity, after[entity])}) == max(
            int(r.key) for r in after[entity]
        )


@pytest.mark.long
def test_after_a_kill_no_id_is_given_twice_and_sales_know_their_ids(connections: InitSettings, tmp_path: Path) -> None:
    for killed in (1, 2):
        with generator(connections, tmp_path / "log", **CLEAN) as process:
            sales_arrive(connections, more_than=700 * killed)
            process.kill()
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="500", **CLEAN)
    records = {e: read(connections, e) for e in Entity}

    sold = rows(Entity.SALES, records[Entity.SALES])
    assert max(Counter(row["transaction_id"] for row in sold).values()) == 1
    for entity in DIMENSIONS:
        known = {row[ID[entity]] for row in rows(entity, records[entity])}
        assert {row[ID[entity]] for row in sold} <= known
        # An id that was given twice would have two values of a field that never changes.
        fixed = {Entity.CUSTOMERS: "join_date", Entity.PRODUCTS: "brand", Entity.STORES: "open_date"}[entity]
        assert len({(row[ID[entity]], row[fixed]) for row in rows(entity, records[entity])}) == len(known)


@pytest.mark.long
def test_no_id_is_given_twice_after_ends_that_cannot_be_read(connections: InitSettings, tmp_path: Path) -> None:
    def sell(sales: int, *faults: str) -> int:
        settings = {**CLEAN, **{f"GENERATOR_FAULT_{fault}": "1" for fault in faults}, "GENERATOR_SALES_PER_S": "0"}
        run(connections, tmp_path / "log", GENERATOR_MAX_SALES=str(sales), **settings)
        return logged(tmp_path / "log", "generator starts")[-1]["next_sale"]

    assert sell(1500) == 1
    assert sell(40_000, "DUPLICATE") == 1501
    assert sell(40_000, "CORRUPT_BYTES") == 1501
    assert sell(40_000, "UNKNOWN_SCHEMA_ID") == 41_501
    assert sell(500) == 81_501
    damaged = [e["id"] for e in ledger(connections) if e["fault"] in ("corrupt_bytes", "unknown_schema_id")]
    assert sorted(i for i in damaged if i > 1500) == list(range(1501, 81_501))


@pytest.mark.long
def test_after_kills_the_ledger_names_every_fault_and_no_record_that_is_not_there(
    connections: InitSettings, tmp_path: Path
) -> None:
    hostile = {"GENERATOR_PROFILE": "hostile", "GENERATOR_SALES_PER_S": "3000", "GENERATOR_FAULT_SILENCE": "0"}
    for killed in (1, 2):
        with generator(connections, tmp_path / "log", **hostile) as process:
            sales_arrive(connections, more_than=2000 * killed)
            process.kill()
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="500", **hostile)

    entries = ledger(connections)
    for entity in Entity:
        records = places(connections, entity)
        planted: dict[tuple[int, int], dict[str, dict]] = {}
        for entry in entries:
            if entry["entity"] == entity:
                planted.setdefault((entry["partition"], entry["offset"]), {})[entry["fault"]] = entry
        assert planted.keys() <= records.keys()
        found = every_row(READERS[entity], (r.value for r in records.values()))
        for (place, record), row in zip(records.items(), found, strict=True):
            faults = planted.get(place, {})
            framed = record.value is None or record.value[:1] == b"\0"
            assert (not framed or (row is None and record.value is not None)) == ("corrupt_bytes" in faults)
            if row is None or not framed:
                continue
            assert all(entry["id"] == row[ID[entity]] for entry in faults.values())
            if entity is Entity.SALES:
                assert (row["discount_applied"] < 0) == ("negative_discount" in faults)
                assert (row["quantity"] < 0) == ("return" in faults)
            for empty, fault in (("email", "null_email"), ("manager", "null_manager")):
                assert (row.get(empty, "") is None) == (fault in faults)
            ahead = row[FIELDS[entity].time] - record.timestamp_ms * 1000
            assert (ahead > 300_000_000) == ("future_event_time" in faults)


def test_a_transaction_that_is_lost_is_sent_again_once(connections: InitSettings, tmp_path: Path) -> None:
    """Fencing, as after a program or a broker that stood still for longer than a transaction may be open."""
    log = tmp_path / "log"
    with generator(connections, log, GENERATOR_MAX_SALES="6000", **CLEAN) as process:
        sales_arrive(connections, more_than=1000)
        for name in ("generator.sales", "generator.customers"):
            kafka = connections.kafka_bootstrap_servers
            Producer({"bootstrap.servers": kafka, "transactional.id": name, "log_level": 2}).init_transactions(30)
        assert process.wait(180) == 0, log.read_text()
    assert {line["producer"] for line in logged(log, "sends again")} == {"generator.sales", "generator.customers"}
    sales = [row["transaction_id"] for row in rows(Entity.SALES, read(connections, Entity.SALES))]
    assert sorted(sales) == list(range(1, 6001))


def test_a_second_generator_ends_the_first_with_one_sentence(connections: InitSettings, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with generator(connections, first, **CLEAN) as old:
        sales_arrive(connections, more_than=500)
        with generator(connections, second, GENERATOR_MAX_SALES="1500", **CLEAN) as new:
            assert old.wait() == 1
            assert [line["why"] for line in logged(first, "generator stops")] == [
                "Another generator has started on these topics, which take one at a time, so this one stops."
            ]
            assert new.wait(180) == 0, second.read_text()
    sales = [row["transaction_id"] for row in rows(Entity.SALES, read(connections, Entity.SALES))]
    assert sorted(sales) == list(range(1, len(sales) + 1))
    assert len(sales) >= 2000


@pytest.mark.long
def test_a_generator_leaves_no_group_that_looks_behind(connections: InitSettings, tmp_path: Path) -> None:
    """The pipeline is drained when the lag of all groups together is 0; a group of the generator would add to it."""
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="500", GENERATOR_PROFILE="hostile")
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="500", GENERATOR_PROFILE="hostile")
    client = admin(connections)
    groups = [g.group_id for g in client.list_consumer_groups().result().valid]
    wanted = [(t, p) for t, there in client.list_topics().topics.items() for p in there.partitions]
    assert {g: offsets for g in groups if (offsets := committed_offsets(connections, g, wanted))} == {}


@pytest.mark.long
def test_a_broker_that_is_killed_loses_nothing(empty_stack: Servers, connections: InitSettings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with generator(connections, log, GENERATOR_MAX_SALES="6000", **CLEAN) as process:
        sales_arrive(connections, more_than=500)
        empty_stack.kill(Server.KAFKA)
        eventually(lambda: len(logged(log, "waiting")) == 1, "it says what it waits for")
        empty_stack.start(Server.KAFKA)
        empty_stack.wait_ready(Server.KAFKA)
        assert process.wait(180) == 0, log.read_text()
    assert len(logged(log, "waiting")) == 1
    assert len(logged(log, "answered")) == 1
    sales = [row["transaction_id"] for row in rows(Entity.SALES, read(connections, Entity.SALES))]
    assert sorted(sales) == list(range(1, 6001))


def test_a_stop_flushes_everything_that_was_made(connections: InitSettings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with generator(connections, log) as process:
        sales_arrive(connections, more_than=500)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    published = logged(log, "published")[-1]
    assert {e: published[e] for e in Entity} == {e: count(connections, e) for e in Entity}


def test_servers_that_are_away_are_waited_for_with_one_sentence(connections: InitSettings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    away = connections.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with generator(away, log) as process:
        eventually(lambda: log.exists() and len(logged(log, "waiting")) == 1, "it says what it waits for")
        assert "Kafka at 127.0.0.1:9 does not answer." in logged(log, "waiting")[0]["why"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
