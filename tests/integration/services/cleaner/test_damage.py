"""A hundred thousand damaged records through a running cleaner: it stays alive, and each of them can be found again."""

import random
import time
from collections import Counter

import pytest

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka.record_batches.reference import Record
from tests.harness.record_batches import batch, store
from tests.integration.services.cleaner.damage import Damage
from tests.integration.services.cleaner.world import PARTITIONS, World, assert_nothing_lost_or_invented, good_key, rules

RECORDS = 100_000
#: What a cleaner may take beyond what it has when it starts: buffers, a few chunks and their columns.
MEMORY_MB = 300
#: The limit of its container in docker-compose.yml.
LIMIT_MB = 448


@pytest.mark.long
@pytest.mark.parametrize("seed", [4])
def test_no_damage_stops_the_cleaner_or_loses_a_record(world: World, seed: int, capsys: pytest.CaptureFixture):
    rng = random.Random(seed)
    damage = Damage(rng, world.ids)
    cleaner = world.started(DLQ_MAX_RATIO="1")
    before_mb = cleaner.peak_mb()
    producer = world.producer()
    for _ in range(RECORDS):
        record = damage.record()
        partition = rng.choice(PARTITIONS)
        topic = topics.raw(record.entity)
        producer.produce(topic, record.value, record.key, partition=partition, headers=record.headers)
        producer.poll(0)
    assert producer.flush(60) == 0
    world.drain(120)
    took_mb = cleaner.peak_mb() - before_mb
    # It is not only alive, but still does what it is for.
    for entity in Entity:
        world.send(entity, world.value(entity))
    world.drain()
    assert cleaner.stop() == 0

    out = world.outcome()
    assert len(out.raw) == RECORDS + len(Entity)
    assert_nothing_lost_or_invented(out)
    reasons = Counter(rule for _, message in out.dead for rule in rules(message))
    with capsys.disabled():
        stderr = world.log.stat().st_size
        print(f"\nseed {seed}: {len(out.clean):,} clean, {len(out.dead):,} dead, + {took_mb:.0f} MB, log {stderr:,} B")
        print(dict(reasons.most_common()))
    assert took_mb < MEMORY_MB
    # The damage was not all of one kind.
    assert len(out.clean) > RECORDS / 10
    assert min(reasons.values()) > 100, reasons


@pytest.mark.parametrize(
    ("compression", "text_bytes"),
    [("none", 1_048_588 - 500), ("zstd", 1_200_000)],
    ids=["as large as can be", "larger, but its sender compresses better than we do"],
)
def test_the_largest_record_that_a_raw_topic_takes_fits_wherever_it_goes(
    world: World, compression: str, text_bytes: int
):
    # A dead letter has more headers than the record, and so has a clean one; the raw topic takes about 1 MiB.
    world.started()
    # Nothing repeats in it, but it has only 95 letters: zstd saves a sixth, lz4 nothing.
    text = "".join(map(chr, random.Random(1).choices(range(32, 127), k=text_bytes)))
    good = world.value(Entity.PRODUCTS, description=text)
    bad = good[:-10]
    for value in (good, bad):
        world.send(Entity.PRODUCTS, value, compression=compression)
    world.drain()
    out = world.outcome()
    assert_nothing_lost_or_invented(out)
    assert [m.value() == good for _, m in out.clean] == [True]
    assert [m.value() == bad for _, m in out.dead] == [True]


def test_a_text_of_18_mb_that_came_as_less_than_one_is_a_letter_without_payload_and_its_neighbours_pass(world: World):
    # zstd sees that the text repeats itself, lz4 looks back 64 KiB only.
    block = "".join(map(chr, random.Random(1).choices(range(32, 127), k=900_000)))
    good, large = world.value(Entity.PRODUCTS), world.value(Entity.PRODUCTS, description=block * 20)
    cleaner = world.started()
    for value in (good, large, good):
        world.send(Entity.PRODUCTS, value, compression="zstd")
    world.drain()
    out = world.outcome()
    assert_nothing_lost_or_invented(out)
    assert [m.value() for _, m in out.clean] == [good, good]
    assert [rules(m) for _, m in out.dead] == [{"size_forwardable"}]
    assert cleaner.peak_mb() < LIMIT_MB
    assert cleaner.stop() == 0


def test_batches_that_expand_to_70_mb_are_read_in_parts_and_a_record_of_65_mb_is_a_letter(world: World):
    def product(size: int) -> bytes:
        return world.value(Entity.PRODUCTS, description="text " * (size // 5))

    now = int(time.time() * 1000)
    small, medium, large = product(10), product(2_000_000), product(65 * 2**20)
    batches = [[small, *[medium] * 35, small], [small, large, small]]
    cleaner = world.started()
    for values in batches:
        records = [Record(i, now, good_key(Entity.PRODUCTS), value, ()) for i, value in enumerate(values)]
        store(world.connections, topics.raw(Entity.PRODUCTS), batch(records, "zstd"))
    world.drain()
    out = world.outcome()
    assert_nothing_lost_or_invented(out)
    assert [m.value() for _, m in out.clean] == [*batches[0], small, small]
    assert [rules(m) for _, m in out.dead] == [{"size_forwardable"}]
    assert cleaner.peak_mb() < LIMIT_MB
    assert cleaner.stop() == 0
