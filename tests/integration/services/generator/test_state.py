"""The generator's state: what a restart needs, in the transactions of the records."""

import json
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from commands.init import InitSettings, create_topics
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, FIELDS, JOINED, Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.kafka.reading import read_to_end
from retail_stream.topics import Result
from services.generator.faults import Fault
from tests.harness.eventually import eventually
from tests.harness.generator_streams import encoder
from tests.harness.rows import every_row
from tests.harness.servers import Servers
from tests.integration.services.generator.world import (
    CLEAN,
    READERS,
    count,
    emptied,
    generator,
    ledger,
    logged,
    places,
    read,
    rows,
    run,
    sales_arrive,
)

KEYS = {e: FIELDS[e].key for e in JOINED}


@pytest.fixture
def connections(empty_stack: Servers) -> InitSettings:
    """Servers with empty topics."""
    return emptied(empty_stack)


def stored(connections: InitSettings) -> dict[bytes, bytes]:
    """Key → value of `generator.state`."""
    found: dict[bytes, bytes] = {}
    for message in read_to_end(connections, Result.STATE):
        if message.value() is None:
            # Its value may be compacted away already.
            found.pop(message.key(), None)
        else:
            found[message.key()] = message.value()
    return found


def dropped(connections: InitSettings, *names: str) -> None:
    """Delete topics, and let `init` create them again."""
    client = clients.admin(connections)
    for deleted in client.delete_topics([*names]).values():
        deleted.result(30)
    eventually(lambda: not topic_partitions(connections, *names), "the topics are gone")
    create_topics(connections)


def test_a_restart_reads_no_record_of_the_dimensions(connections: InitSettings, tmp_path: Path) -> None:
    """They may be gone by retention: the state alone says what there is."""
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="1500", **CLEAN)
    before = {e: read(connections, e) for e in Entity}
    names = [topics.raw(e) for e in Entity]
    ends = end_offsets(connections, topic_partitions(connections, *names))
    client = clients.admin(connections)
    deleted = client.delete_records([TopicPartition(*p, end) for p, end in ends.items()])
    for partition in deleted.values():
        partition.result(30)
    assert {count(connections, e) for e in Entity} == {0}

    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="1500", **CLEAN)
    sold = rows(Entity.SALES, read(connections, Entity.SALES))
    assert sorted(row["transaction_id"] for row in sold) == list(range(1501, 3001))
    for entity in DIMENSIONS:
        key = KEYS[entity]
        known = {row[key] for row in rows(entity, before[entity])}
        later = rows(entity, read(connections, entity))
        new = {row[key] for row in later} - known
        assert sorted(new) == list(range(max(known) + 1, max(known) + 1 + len(new)))
        # Updates of ids that only the state knows.
        assert {row[key] for row in later} & known
        assert {row[key] for row in sold} <= known | new


@pytest.mark.long
def test_after_kills_the_state_says_what_the_records_say(connections: InitSettings, tmp_path: Path) -> None:
    hostile = {"GENERATOR_PROFILE": "hostile", "GENERATOR_SALES_PER_S": "3000", "GENERATOR_CHANGES_PER_S": "1000"}
    for killed in (1, 2):
        with generator(connections, tmp_path / "log", **hostile) as process:
            sales_arrive(connections, more_than=2000 * killed)
            process.kill()
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="500", **hostile)

    state, never = stored(connections), {"corrupt_bytes", "unknown_schema_id", "future_event_time"}
    planted = {(e["entity"], e["partition"], e["offset"]) for e in ledger(connections) if e["fault"] in never}
    for entity in Entity:
        records = places(connections, entity)
        tally = json.loads(state[entity.encode()])
        assert tally["records"] == len(records)
        assert tally["newest_us"] // 1000 == max(r.timestamp_ms for r in records.values())
        if entity is Entity.SALES:
            continue
        newest: dict[bytes, dict | None] = {}
        found = every_row(READERS[entity], (r.value for r in records.values()))
        for (place, record), row in sorted(zip(records.items(), found, strict=True), key=lambda pair: pair[0][0]):
            if (entity, *place) in planted:
                continue
            before = newest.get(record.key)
            if row is None or before is None or before["last_update_time"] <= row["last_update_time"]:
                newest[record.key] = row
        kept = {k.partition(b"/")[2]: v for k, v in state.items() if k.startswith(entity.encode() + b"/")}
        values = dict(zip(kept, every_row(READERS[entity], kept.values()), strict=True))
        assert values == {key: row for key, row in newest.items() if row is not None}
        assert tally["next_id"] == max(int(key) for key in newest) + 1


@pytest.mark.long
def test_topics_of_an_earlier_release_are_read_once_and_no_id_is_given_twice(
    connections: InitSettings, tmp_path: Path
) -> None:
    damaged = {"GENERATOR_FAULT_CORRUPT_BYTES": "1"}
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="1500", **CLEAN)
    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="1500", **{**CLEAN, **damaged})
    # Another source: one id that counts, and one that the cleaner rejects.
    other = clients.producer(connections)
    (first, *_) = read(connections, Entity.STORES)
    assert first.value is not None
    far = first.value[:5] + encoder(Entity.STORES)({**rows(Entity.STORES, [first])[0], "store_id": 70_000})[5:]
    other.produce(topics.raw(Entity.STORES), far, b"70000")
    other.produce(topics.raw(Entity.STORES), b"x", b"2147483647")
    assert other.flush(30) == 0
    before = {e: read(connections, e) for e in Entity}
    dropped(connections, Result.STATE)

    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="1500", **CLEAN)
    names = {line["topic"] for line in logged(tmp_path / "log", "reads the ids of a topic once")}
    assert names == {topics.raw(e) for e in (*JOINED, Entity.SALES)}
    started = logged(tmp_path / "log", "generator starts")[-1]
    assert started["next_sale"] > 3000
    assert 70_000 < started["next_stores"] < 80_000
    given = {e: {int(r.key) for r in before[e]} for e in JOINED}
    for entity in JOINED:
        later = read(connections, entity)[len(before[entity]) :]
        created = {int(r.key) for r in read(connections, entity)} - given[entity]
        assert min(created) == started[f"next_{entity}"]
        assert later
    sold = rows(Entity.SALES, read(connections, Entity.SALES))
    assert max(Counter(row["transaction_id"] for row in sold).values()) == 1
    damaged_ids = {e["id"] for e in ledger(connections) if e["fault"] == Fault.CORRUPT_BYTES}
    assert not damaged_ids & {row["transaction_id"] for row in sold if row["transaction_id"] > 3000}

    run(connections, tmp_path / "log", GENERATOR_MAX_SALES="100", **CLEAN)
    assert len(logged(tmp_path / "log", "reads the ids of a topic once")) == len(names)


@pytest.mark.long
def test_a_topic_that_was_made_anew_without_the_state_is_one_sentence(
    connections: InitSettings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    run(connections, log, GENERATOR_MAX_SALES="500", **CLEAN)
    dropped(connections, topics.raw(Entity.PRODUCTS))
    with generator(connections, log, **CLEAN) as process:
        assert process.wait(180) == 1
    (line,) = logged(log, "generator stops")
    assert line["why"].startswith("products.raw holds 0 records, and generator.state counts")
    dropped(connections, Result.STATE)
    run(connections, log, GENERATOR_MAX_SALES="500", **CLEAN)
