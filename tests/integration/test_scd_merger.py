"""The merger on a real Postgres (and, at the end, a real Kafka): the same tables as the oracle's."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from decimal import Decimal

import polars as pl
import pytest
from confluent_kafka import Message
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from retail_stream import kafka, positions
from retail_stream.entities import Entity
from retail_stream.errors import Fenced, PoisonRecord
from retail_stream.kafka import SEQUENCE_TIME, SOURCE_OFFSET, as_big_endian
from retail_stream.registry import Registry
from retail_stream.settings import Connections
from retail_stream.topics import Group
from retail_stream.wire import Writer, encode, frame
from services.scd_merger.dimensions import Dimension, clean_schema, declare, dimensions
from services.scd_merger.merge import merge
from services.scd_merger.merger import Merger, lanes
from services.scd_merger.reader import Slice
from services.scd_merger.tables import DimensionTable
from tests.unit.scd_oracle import Event, Version, batches, delete, history, oracle, upsert

PRODUCTS = declare(Entity.PRODUCTS, clean_schema(Entity.PRODUCTS))
WRITER = Writer(clean_schema(Entity.PRODUCTS))
TOPIC = PRODUCTS.topic
#: every time of these tests is this and a few microseconds
EPOCH = 1_700_000_000_000_000
REST = {
    "category": "Tops",
    "brand": "Aé",
    "stock_quantity": 1,
    "size": "M",
    "color": "",
    "description": 'a "b"\r\n\\.\n,',
}


def product(event: Event) -> dict[str, object]:
    key, at, _, name, price = event
    return {"product_id": key, "name": name, "price": price, **REST, "last_update_time": EPOCH + at}


def changes_of(events: list[Event]) -> pl.DataFrame:
    none = dict.fromkeys(PRODUCTS.attributes)
    rows = [product(e) | (none if e[2] else {}) | {"deleted": e[2]} for e in events]
    return pl.DataFrame(rows, schema=PRODUCTS.change_schema)


def versions(engine: Engine, keys: range) -> list[Version]:
    micros = "(extract(epoch FROM {0}) * 1000000)::bigint - {1}"
    sql = f"""
        SELECT product_id, {micros.format("valid_from", EPOCH)}, {micros.format("valid_to", EPOCH)}, name, price::float8
        FROM dim_products WHERE product_id >= :first AND product_id < :end ORDER BY product_id, valid_from
    """
    with engine.connect() as connection:
        return [tuple(r) for r in connection.execute(text(sql), {"first": keys.start, "end": keys.stop})]  # type: ignore[misc]


def test_the_sql_agrees_with_the_oracle_on_random_streams(warehouse: Engine) -> None:
    table, seeds = DimensionTable(PRODUCTS), range(60)
    streams = []
    for seed in seeds:
        rng = random.Random(seed)
        events = history(rng, seed * 5)
        streams.append((events, batches(rng, events, 10)))
    for i in range(10):
        batch = changes_of([event for _, cut in streams for event in cut[i]])
        with warehouse.begin() as connection:
            table.apply(connection, merge(PRODUCTS, batch, table.gather(connection, batch)))
    for seed, (events, _) in zip(seeds, streams, strict=True):
        assert versions(warehouse, range(seed * 5, seed * 5 + 5)) == oracle(events), f"seed {seed}"


def test_texts_times_and_cents_come_through_exactly(warehouse: Engine) -> None:
    table = DimensionTable(PRODUCTS)
    prices = {1: 0.125, 2: 1.005, 3: 999_999_999.99, 4: 2.675, 5: 0.0, 6: -0.005}
    batch = changes_of([upsert(k, f"\t{k}, “é𝄞”\n''", k, price) for k, price in prices.items()])
    with warehouse.begin() as connection:
        table.apply(connection, merge(PRODUCTS, batch, table.gather(connection, batch)))
        # What was written reads back as it was, so the same batch again does nothing.
        plan = merge(PRODUCTS, batch, table.gather(connection, batch))
        stored = connection.execute(text("SELECT product_id, price, name, description FROM dim_products")).all()
    assert all(frame.is_empty() for frame in vars(plan).values())
    cents = {k: Decimal(round(p * 100)) / 100 for k, p in prices.items()}
    assert {row.product_id: row.price for row in stored} == cents
    assert {(row.name, row.description) for row in stored} == {
        (f"\t{k}, “é𝄞”\n''", REST["description"]) for k in prices
    }


@pytest.mark.parametrize("dimension", dimensions(), ids=str)
def test_the_migration_makes_the_declared_columns(warehouse: Engine, dimension: Dimension) -> None:
    with warehouse.connect() as connection:
        there = {
            name: connection.execute(text(f"SELECT * FROM {name} LIMIT 0")).keys()
            for name in (dimension.table, dimension.changes_table)
        }
    d = dimension
    ends = [d.sequence, "valid_from", "valid_to", "is_current"]
    assert list(there[d.table]) == [d.surrogate, d.key, *d.attributes, *ends]
    assert list(there[d.changes_table]) == list(d.change_schema)


#                 10        20
#   stored        |---------)        30 |-----
@pytest.mark.parametrize(
    ("start", "end", "rule"),
    [
        (15, 18, "no_overlap"),
        (5, 11, "no_overlap"),
        (19, 25, "no_overlap"),
        (25, None, "no_overlap"),
        (40, None, "no_overlap"),
        (22, 22, "not_empty"),
        (22, 21, "not_empty"),
    ],
)
def test_the_database_refuses_a_wrong_history(warehouse: Engine, start: int, end: int | None, rule: str) -> None:
    insert = text("""
        INSERT INTO dim_stores (store_id, name, address, manager, open_date, status, phone_number, valid_from, valid_to)
        VALUES (1, '', '', '', 'epoch', '', '', to_timestamp(:start), to_timestamp(:end))
    """)
    with warehouse.begin() as connection:
        connection.execute(insert, [{"start": 10, "end": 20}, {"start": 30, "end": None}])
    with pytest.raises(IntegrityError, match=f"dim_stores_{rule}"), warehouse.begin() as connection:
        connection.execute(insert, {"start": start, "end": end})


class OneSchema:
    def get(self, ids: object) -> Mapping[int, Writer]:
        return {7: WRITER}


def messages(events: list[Event], first_offset: int = 0, partition: int = 0) -> tuple[Message, ...]:
    return tuple(
        Message(
            TOPIC,
            partition,
            offset,
            str(event[0]).encode(),
            None if event[2] else frame(7, encode(WRITER.plain, product(event))),
            [(SOURCE_OFFSET, as_big_endian(offset)), (SEQUENCE_TIME, as_big_endian(EPOCH + event[1]))],
            timestamp=(1, EPOCH // 1000),
        )
        for offset, event in enumerate(events, first_offset)
    )


def merger(warehouse: Engine) -> Merger:
    return Merger(warehouse, [PRODUCTS], {TOPIC: OneSchema()})  # type: ignore[dict-item]


def stored_position(warehouse: Engine, partition: int = 0) -> tuple[int, int]:
    sql = text("SELECT next_offset, source_offset FROM consumer_positions WHERE partition = :partition")
    with warehouse.connect() as connection:
        return tuple(connection.execute(sql, {"partition": partition}).one())  # type: ignore[return-value]


def test_results_and_positions_are_stored_together(warehouse: Engine) -> None:
    service, place = merger(warehouse), (TOPIC, 0)
    [owned] = service.claim([place])
    [moved] = service.take({place: owned}, {place: Slice(messages([upsert(1, "a"), delete(2)]), end=5)})
    assert (moved.next_offset, moved.source_offset) == (5, 1) == stored_position(warehouse)
    assert versions(warehouse, range(1, 2)) == [(1, 1, 2, "a", 1.0)]


def test_a_worker_that_lost_its_partition_writes_nothing(warehouse: Engine) -> None:
    service, place = merger(warehouse), (TOPIC, 0)
    [owned] = service.claim([place])
    with warehouse.begin() as connection:
        positions.claim(connection, Group.SCD_MERGER, *place)
    with pytest.raises(Fenced):
        service.take({place: owned}, {place: Slice(messages([upsert(1, "a")]))})
    assert versions(warehouse, range(1, 2)) == []
    assert stored_position(warehouse) == (0, -1)


def test_a_record_that_the_cleaner_sent_twice_is_dropped(warehouse: Engine) -> None:
    service, place = merger(warehouse), (TOPIC, 0)
    [owned] = service.claim([place])
    [moved] = service.take({place: owned}, {place: Slice(messages([upsert(1, "a")] * 10))})
    # The same source offsets with other contents: were they read, they would be seen.
    again = tuple(
        Message(TOPIC, 0, m.offset() + 10, m.key(), m.value(), m.headers(), timestamp=m.timestamp())
        for m in messages([upsert(9, "b")] * 10)
    )
    [moved] = service.take({place: moved}, {place: Slice(again)})
    assert (moved.next_offset, moved.source_offset) == (20, 9)
    assert versions(warehouse, range(1, 2)) == [(1, 1, None, "a", 1.0)]


def test_the_record_that_postgres_refuses_is_named_and_no_other_is_lost(warehouse: Engine) -> None:
    service, places = merger(warehouse), [(TOPIC, 0), (TOPIC, 1)]
    owned = dict(zip(places, service.claim(places), strict=True))
    bad = [upsert(t, f"v{t}\0" if t == 13 else f"v{t}") for t in range(20)]
    good = [upsert(t, f"v{t}", key=2) for t in range(20)]
    batch = {places[0]: Slice(messages(bad)), places[1]: Slice(messages(good, partition=1))}
    with pytest.raises(PoisonRecord, match=rf"{TOPIC}/0@13\b"):
        service.take(owned, batch)
    assert stored_position(warehouse, 0) == (13, 12)
    assert stored_position(warehouse, 1) == (20, 19)
    assert len(versions(warehouse, range(1, 2))) == 13
    assert len(versions(warehouse, range(2, 3))) == 20


def test_a_batch_that_lost_a_deadlock_is_taken_again(warehouse: Engine) -> None:
    service, place = merger(warehouse), (TOPIC, 0)
    [owned] = service.claim([place])
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
    service.take({place: owned}, {place: Slice(messages([upsert(1, "a")]))})
    assert versions(warehouse, range(1, 2)) == [(1, 1, None, "a", 1.0)]


def test_only_partitions_without_a_common_key_are_merged_side_by_side() -> None:
    def batch(*keys: int, size: int = 1000) -> dict[tuple[str, int], Slice]:
        parts = (messages([upsert(t, "a", key) for t in range(size)], partition=p) for p, key in enumerate(keys))
        return {(TOPIC, p): Slice(part) for p, part in enumerate(parts)}

    assert [sorted(p for _, p in part) for part in lanes(batch(1, 2, 3, 4))] == [[0, 2], [1, 3]]
    assert len(lanes(batch(1, 2, 3, 1))) == 1, "key 1 is in two partitions that would part"
    assert len(lanes(batch(1, 2, 1, 3))) == 2, "... and here in two that would not"
    assert len(lanes(batch(1, 2, size=999))) == 1, "too small to be worth it"
    assert len(lanes(batch(1, size=5000))) == 1
    assert lanes({}) == [{}]


def test_a_large_batch_is_merged_in_two_transactions_and_one_bad_record_spoils_neither(warehouse: Engine) -> None:
    service, places = merger(warehouse), [(TOPIC, p) for p in range(3)]
    owned = dict(zip(places, service.claim(places), strict=True))
    events = {p: [upsert(t, f"v{t}", key=p + 1) for t in range(1000)] for p in range(3)}
    events[1][700] = upsert(700, "\0", key=2)
    batch = {(TOPIC, p): Slice(messages(e, partition=p)) for p, e in events.items()}
    with pytest.raises(PoisonRecord, match=rf"{TOPIC}/1@700\b"):
        service.take(owned, batch)
    assert [stored_position(warehouse, p)[0] for p in range(3)] == [1000, 700, 1000]
    for partition, size in ((0, 1000), (1, 700), (2, 1000)):
        assert len(versions(warehouse, range(partition + 1, partition + 2))) == size


def start(connections: Connections) -> subprocess.Popen:
    env = {**os.environ, "METRICS_PORT": "0"} | {k.upper(): str(v) for k, v in connections.model_dump().items()}
    return subprocess.Popen([sys.executable, "-m", "services.scd_merger"], env=env, start_new_session=True)


def publish(connections: Connections, events: list[Event]) -> None:
    # No source.offset: other tests share the topic, and larger ones than theirs would make theirs repeats.
    number = Registry(connections.schema_registry_url).register(f"{TOPIC}-value", WRITER.schema)
    sink = kafka.producer(connections)
    for event in events:
        value = None if event[2] else frame(number, encode(WRITER.plain, product(event)))
        head = [(SEQUENCE_TIME, as_big_endian(EPOCH + event[1]))]
        sink.produce(TOPIC, value, str(event[0]), event[0] % 4, headers=head)
    assert sink.flush(10) == 0


def test_two_mergers_killed_and_fenced_agree_with_the_oracle(connections: Connections, warehouse: Engine) -> None:
    keys = range(1_000_000, 1_000_200)
    rng = random.Random(5)
    events = [e for first in keys[::5] for e in history(rng, first)]
    rng.shuffle(events)
    third = len(events) // 3
    running = [start(connections), start(connections)]
    try:
        publish(connections, events[:third])
        _until(lambda: len(versions(warehouse, keys)) > 0)
        running[0].send_signal(signal.SIGKILL)
        publish(connections, events[third : 2 * third])
        running.append(start(connections))
        with warehouse.begin() as connection:
            # As if a third worker had claimed everything: both are fenced, and claim it back.
            connection.execute(text("UPDATE consumer_positions SET epoch = epoch + 1"))
        publish(connections, events[2 * third :])
        _until(lambda: versions(warehouse, keys) == oracle(events))
        for process in running[1:]:
            process.send_signal(signal.SIGTERM)
        # The replacement may not have come as far as to handle signals.
        assert running[1].wait(60) == 0
        running[2].wait(60)
        lag = kafka.end_offsets(connections, [(TOPIC, p) for p in range(4)])
        hints = kafka.committed_offsets(connections, Group.SCD_MERGER, lag)
        assert {place: hints[place] for place in lag} == lag
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()


def _until(condition: Callable[[], bool], deadline_s: float = 120) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.2)
