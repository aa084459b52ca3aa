"""The merger on a real Postgres makes the same tables as the oracle, whatever the batches."""

import random
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from services.scd_merger.merge import merge
from services.scd_merger.tables import DimensionTable
from tests.harness.scd_oracle import Event, batches, delete, history, oracle, upsert
from tests.integration.services.scd_merger.products import (
    PRODUCTS,
    REST,
    TOPIC,
    changes_of,
    clean_records,
    merger,
    records,
    versions,
)


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


def clean_log(rng: random.Random, length: int) -> list[int]:
    """Source offsets as a cleaner sends them that is killed now and then: some stretches come twice."""
    sent: list[int] = []
    at = 0
    while at < length:
        until = min(length, at + rng.choice([3, 50, 800]))
        sent += range(at, until)
        at = until if rng.random() < 0.8 or until == length else max(0, until - rng.randrange(1, 400))
    return sent


def busy_partitions(rng: random.Random, keys: int, count: int) -> list[list[Event]]:
    """Four partitions with some changes to each of many keys, mostly in order."""
    partitions: list[list[Event]] = [[] for _ in range(4)]
    last: dict[int, Event] = {}
    now = 0
    for _ in range(count):
        now += rng.randrange(1, 20_000)
        key, dice = rng.randint(1, keys), rng.random()
        old = last.get(key)
        if old and old[2]:
            continue
        event = upsert(now, rng.choice("abcdefgh"), key, rng.choice([1.0, 2.5]))
        if old and dice < 0.02:
            last[key] = event = delete(now, key)
        elif old and dice < 0.07:
            event = upsert(max(0, old[1] - rng.randrange(1, 3_000_000)), rng.choice("abcdefgh"), key)
        elif old and dice < 0.09:
            last[key] = event = upsert(now, str(old[3]), key, float(old[4] or 0))
        elif old and dice < 0.1:
            last[key] = event = upsert(old[1], rng.choice("abcdefgh"), key, 2.0)
        else:
            last[key] = event
        partitions[key % 4].append(event)
    return partitions


# At these the exclusion constraint that stood here before lost entries of its index, one run in three.
LARGE = [26, *(pytest.param(seed, marks=pytest.mark.long) for seed in (28, 58, 26, 28, 58))]


@pytest.mark.parametrize("seed", LARGE)
def test_large_batches_in_two_transactions_at_a_time_agree_with_the_oracle(warehouse: Engine, seed: int) -> None:
    partitions = [(TOPIC, p) for p in range(4)]
    rng = random.Random(seed)
    raw = busy_partitions(rng, 6000, 30_000)
    logs = [clean_log(rng, len(events)) for events in raw]
    sent = [clean_records([raw[p][s] for s in logs[p]], sources=logs[p]) for _, p in partitions]
    service = merger(warehouse)
    owned = dict(service.claim(partitions))
    while any(owned[tp].next_offset < len(sent[tp[1]]) for tp in partitions):
        most = rng.choice([60, 700, 2500])
        batch = {}
        for tp in partitions:
            start = owned[tp].next_offset
            if some := sent[tp[1]][start : start + rng.randrange(most + 1)]:
                batch[tp] = records(some, tp[1])
        owned |= service.store(owned, batch)
        if rng.random() < 0.1:
            service = merger(warehouse)
            owned = dict(service.claim(partitions))
    assert versions(warehouse, range(6001)) == oracle(e for events in raw for e in events)
