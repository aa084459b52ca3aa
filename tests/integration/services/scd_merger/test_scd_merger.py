"""What the merger stores of a batch on a real Postgres, and two mergers that are killed on a real Kafka."""

import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import Engine, text

from retail_stream.avro.decode import encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.errors import Fenced, PoisonRecord
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SEQUENCE_TIME, as_big_endian
from retail_stream.kafka.offsets import TopicPartitionKey, committed_offsets, end_offsets
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.settings import Connections
from retail_stream.topics import Group
from retail_stream.warehouse import positions
from services.scd_merger import tables
from services.scd_merger.lanes import lanes
from tests.harness.eventually import eventually
from tests.harness.record_batches import columns
from tests.harness.scd_oracle import Event, delete, history, oracle, upsert
from tests.harness.services import Services, servers_of
from tests.integration.services.scd_merger.products import (
    EPOCH,
    TOPIC,
    WRITER,
    clean_records,
    merger,
    product,
    records,
    stored_position,
    versions,
)


def test_results_and_positions_are_stored_together(warehouse: Engine) -> None:
    service, tp = merger(warehouse), (TOPIC, 0)
    owned = service.claim([tp])
    moved = service.store(owned, {tp: records(clean_records([upsert(1, "a"), delete(2)]), end=5)})[tp]
    assert (moved.next_offset, moved.source_offset) == (5, 1) == stored_position(warehouse)
    assert versions(warehouse, range(1, 2)) == [(1, 1, 2, "a", 1.0)]


def test_a_worker_that_lost_its_partition_writes_nothing(warehouse: Engine) -> None:
    service, tp = merger(warehouse), (TOPIC, 0)
    owned = service.claim([tp])
    with warehouse.begin() as connection:
        positions.claim(connection, Group.SCD_MERGER, *tp)
    with pytest.raises(Fenced):
        service.store(owned, {tp: records(clean_records([upsert(1, "a")]))})
    assert versions(warehouse, range(1, 2)) == []
    assert stored_position(warehouse) == (0, -1)


def test_a_record_that_the_cleaner_sent_twice_is_dropped(warehouse: Engine) -> None:
    service, tp = merger(warehouse), (TOPIC, 0)
    owned = service.claim([tp])
    owned = service.store(owned, {tp: records(clean_records([upsert(1, "a")] * 10))})
    # The same source offsets with other contents: were they read, they would be seen.
    again = [replace(r, offset=r.offset + 10) for r in clean_records([upsert(9, "b")] * 10)]
    moved = service.store(owned, {tp: records(again)})[tp]
    assert (moved.next_offset, moved.source_offset) == (20, 9)
    assert versions(warehouse, range(1, 2)) == [(1, 1, None, "a", 1.0)]


def test_the_record_that_postgres_refuses_is_named_and_no_other_is_lost(warehouse: Engine) -> None:
    service, partitions = merger(warehouse), [(TOPIC, 0), (TOPIC, 1)]
    owned = service.claim(partitions)
    bad = [upsert(t, f"v{t}\0" if t == 13 else f"v{t}") for t in range(20)]
    good = [upsert(t, f"v{t}", key=2) for t in range(20)]
    batch = {partitions[0]: records(clean_records(bad)), partitions[1]: records(clean_records(good), 1)}
    with pytest.raises(PoisonRecord, match=rf"{TOPIC}/0@13\b"):
        service.store(owned, batch)
    assert stored_position(warehouse, 0) == (13, 12)
    assert stored_position(warehouse, 1) == (20, 19)
    assert len(versions(warehouse, range(1, 2))) == 13
    assert len(versions(warehouse, range(2, 3))) == 20


def test_a_batch_whose_neighbours_are_large_is_merged_in_parts(
    warehouse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    parsed = tables._parsed

    def spied(lines: str | None, *rest: Any) -> pl.DataFrame:
        sizes.append(len((lines or "").encode()))
        return parsed(lines, *rest)

    monkeypatch.setattr(tables, "_parsed", spied)
    monkeypatch.setattr(tables, "MOST_BYTES", 2_000, raising=False)
    service, tp, written = merger(warehouse), (TOPIC, 0), []
    owned = service.claim([tp])
    for first in range(0, 90, 30):
        events = [upsert(first, f"{first}" * 250, key, 1.0) for key in range(30)]
        pieces = (columns(*tp, clean_records(events, first)),)
        owned = service.store(owned, {tp: PartitionRecords(pieces, first, first + 30)})
        written += events
    assert versions(warehouse, range(30)) == oracle(written)
    assert stored_position(warehouse)[0] == 90
    assert max(sizes) <= 3_000


@pytest.mark.long
def test_a_batch_beside_1100_texts_of_a_megabyte_is_merged(warehouse: Engine) -> None:
    # Together more than Postgres can hold in one value.
    with warehouse.begin() as connection:
        connection.execute(
            text("""
            INSERT INTO products_changes
            SELECT k, to_timestamp(1_700_000_000), false, repeat('x', 1_000_000), '', '', 1, 1, '', '', '', NULL
            FROM generate_series(1, 1_100) k;
            INSERT INTO dim_products (product_id, name, category, brand, price, stock_quantity, size, color,
                                      description, valid_from)
            SELECT product_id, name, category, brand, price, stock_quantity, size, color, description, last_update_time
            FROM products_changes
        """)
        )
    service, tp = merger(warehouse), (TOPIC, 0)
    events = [upsert(10, "small", key, 1.0) for key in range(1, 1_101)]
    service.store(service.claim([tp]), {tp: records(clean_records(events))})
    with warehouse.connect() as connection:
        counts = text("SELECT count(*), count(*) FILTER (WHERE valid_to IS NULL AND name = 'small') FROM dim_products")
        assert tuple(connection.execute(counts).one()) == (2_200, 1_100)


def test_a_batch_that_lost_a_deadlock_is_taken_again(warehouse: Engine) -> None:
    service, tp = merger(warehouse), (TOPIC, 0)
    owned = service.claim([tp])
    with warehouse.begin() as connection:
        # As Postgres ends one of two transactions that wait for each other; a sequence is not rolled back.
        connection.execute(text("CREATE SEQUENCE attempts"))
        connection.execute(
            text("""
            CREATE FUNCTION lose_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('attempts') = 1 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
                RETURN NULL;
            END $$
        """)
        )
        connection.execute(text("CREATE TRIGGER lose_once AFTER INSERT ON dim_products EXECUTE FUNCTION lose_once()"))
    service.store(owned, {tp: records(clean_records([upsert(1, "a")]))})
    assert versions(warehouse, range(1, 2)) == [(1, 1, None, "a", 1.0)]


def test_only_partitions_without_a_common_key_are_merged_side_by_side() -> None:
    def batch(*keys: int, size: int = 1000) -> dict[TopicPartitionKey, PartitionRecords]:
        parts = (clean_records([upsert(t, "a", key) for t in range(size)]) for key in keys)
        return {(TOPIC, p): records(part, p) for p, part in enumerate(parts)}

    assert [sorted(p for _, p in part) for part in lanes(batch(1, 2, 3, 4))] == [[0, 2], [1, 3]]
    assert len(lanes(batch(1, 2, 3, 1))) == 1, "key 1 is in two partitions that would part"
    assert len(lanes(batch(1, 2, 1, 3))) == 2, "... and here in two that would not"
    assert len(lanes(batch(1, 2, size=999))) == 1, "too small to be worth it"
    assert len(lanes(batch(1, size=5000))) == 1
    assert lanes({}) == [{}]


def test_a_large_batch_is_merged_in_two_transactions_and_one_bad_record_spoils_neither(warehouse: Engine) -> None:
    service, partitions = merger(warehouse), [(TOPIC, p) for p in range(3)]
    owned = service.claim(partitions)
    events = {p: [upsert(t, f"v{t}", key=p + 1) for t in range(1000)] for p in range(3)}
    events[1][700] = upsert(700, "\0", key=2)
    batch = {(TOPIC, p): records(clean_records(e), p) for p, e in events.items()}
    with pytest.raises(PoisonRecord, match=rf"{TOPIC}/1@700\b"):
        service.store(owned, batch)
    assert [stored_position(warehouse, p)[0] for p in range(3)] == [1000, 700, 1000]
    for partition, size in ((0, 1000), (1, 700), (2, 1000)):
        assert len(versions(warehouse, range(partition + 1, partition + 2))) == size


def publish(connections: Connections, events: list[Event]) -> None:
    # No source.offset: other tests share the topic, and larger ones than theirs would make theirs repeats.
    number = Registry(connections.schema_registry_url).register(f"{TOPIC}-value", WRITER.schema)
    sink = clients.producer(connections)
    for event in events:
        value = None if event[2] else frame(number, encode(WRITER.plain, product(event)))
        head = [(SEQUENCE_TIME, as_big_endian(EPOCH + event[1]))]
        sink.produce(TOPIC, value, str(event[0]), event[0] % 4, headers=head)
    assert sink.flush(10) == 0


def test_two_mergers_killed_and_fenced_agree_with_the_oracle(
    connections: Connections, warehouse: Engine, tmp_path: Path
) -> None:
    keys = range(1_000_000, 1_000_200)
    rng = random.Random(5)
    events = [e for first in keys[::5] for e in history(rng, first)]
    rng.shuffle(events)
    third = len(events) // 3
    with Services(servers_of(connections), tmp_path / "merger.log") as services:
        first, second = services.start("scd_merger"), services.start("scd_merger")
        publish(connections, events[:third])
        eventually(lambda: len(versions(warehouse, keys)) > 0, "versions arrive")
        first.kill()
        publish(connections, events[third : 2 * third])
        replacement = services.start("scd_merger")
        with warehouse.begin() as connection:
            # As if a third worker had claimed everything: both are fenced, and claim it back.
            connection.execute(text("UPDATE consumer_positions SET epoch = epoch + 1"))
        publish(connections, events[2 * third :])
        eventually(lambda: versions(warehouse, keys) == oracle(events), "the table is the oracle's", 120, every_s=0.2)
        eventually(lambda: replacement.at.ask("/readyz")[0] == 200, "it handles signals")
        for service in (second, replacement):
            service.send_signal(signal.SIGTERM)
        assert second.wait() == 0
        assert replacement.wait() == 0
        ends = end_offsets(connections, [(TOPIC, p) for p in range(4)])
        committed = committed_offsets(connections, Group.SCD_MERGER, ends)
        assert {tp: committed[tp] for tp in ends} == ends
