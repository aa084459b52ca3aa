"""What a cleaner says of itself over HTTP: numbers that equal what was produced; ready when it has its share."""

import signal
import time

import pytest

from commands.embedded.servers import Server
from retail_stream import topics
from retail_stream.entities import Entity
from tests.harness.eventually import eventually
from tests.integration.services.cleaner.world import PARTITIONS, Cleaner, World, good_key


def lags(cleaner: Cleaner) -> dict[str, float]:
    """Of the partitions that it owns."""
    return {name: value for name, value in cleaner.metrics().items() if name.startswith("cleaner_lag_records")}


def test_the_numbers_equal_what_was_produced(world: World):
    good, torn = world.value(Entity.SALES), world.value(Entity.SALES)[:-1]
    negative = world.value(Entity.SALES, discount_applied=-1.0)
    odd = world.value(Entity.SALES, quantity=0, total_amount=0.0)
    world.send(Entity.SALES, *[good] * 40, *[torn] * 3, *[negative] * 2, *[odd] * 4, partition=1)
    world.send(Entity.SALES, negative, key=b"8", partition=2)
    blank, aged = world.value(Entity.CUSTOMERS, email=None), world.value(Entity.CUSTOMERS, age=130)
    world.send(Entity.CUSTOMERS, *[blank] * 5, *[aged] * 6, None)
    cleaner = world.started()
    world.drain()

    told = {name: value for name, value in cleaner.metrics().items() if name.startswith("cleaner_")}
    # Those that nothing happened to are there, too, at 0.
    records = {name: value for name, value in told.items() if name.startswith("cleaner_records_") and value}
    assert records == {
        'cleaner_records_in_total{entity="sales"}': 50,
        'cleaner_records_out_total{entity="sales"}': 44,
        'cleaner_records_rejected_total{entity="sales"}': 6,
        'cleaner_records_in_total{entity="customers"}': 12,
        'cleaner_records_out_total{entity="customers"}': 12,
    }
    assert told['cleaner_records_rejected_total{entity="stores"}'] == 0
    broken = {name: value for name, value in told.items() if name.startswith("cleaner_rules_broken_total") and value}
    assert broken == {
        'cleaner_rules_broken_total{action="reject",entity="sales",rule="valid_avro"}': 3,
        'cleaner_rules_broken_total{action="reject",entity="sales",rule="discount_not_negative"}': 3,
        'cleaner_rules_broken_total{action="reject",entity="sales",rule="key_matches"}': 1,
        'cleaner_rules_broken_total{action="warn",entity="sales",rule="quantity_not_zero"}': 4,
        'cleaner_rules_broken_total{action="default",entity="customers",rule="email_present"}': 5,
        'cleaner_rules_broken_total{action="warn",entity="customers",rule="age_plausible"}': 6,
    }
    assert told['cleaner_rules_broken_total{action="default",entity="stores",rule="manager_present"}'] == 0
    assert told["cleaner_batch_records_sum"] == 62
    names = [topics.raw(e) for e in Entity]
    none = {f'cleaner_lag_records{{partition="{p}",topic="{t}"}}': 0 for t in names for p in PARTITIONS}
    # Topics without records come last: their readers are told of an end when their first fetch comes back empty.
    eventually(lambda: lags(cleaner) == none, f"no lag anywhere, but {lags(cleaner)}")


def test_latency_counts_from_the_oldest_record_of_a_batch(world: World):
    # One batch, since they are there before the cleaner is: 50 s, 0 s and 20 s old.
    now = time.time_ns() // 1_000_000
    producer = world.producer()
    for age_s in (50, 0, 20):
        when = now - age_s * 1000
        topic, value, key = topics.raw(Entity.STORES), world.value(Entity.STORES), good_key(Entity.STORES)
        producer.produce(topic, value, key, partition=0, timestamp=when)
    producer.flush()
    cleaner = world.started()
    world.drain()
    waited_s = time.time() - now / 1000
    told = cleaner.metrics()
    assert told['cleaner_latency_seconds_count{entity="stores"}'] == 1
    assert 50 <= told['cleaner_latency_seconds_sum{entity="stores"}'] <= 50 + waited_s
    assert 'cleaner_latency_seconds_count{entity="sales"}' not in told


def test_lag_is_what_is_left_to_do(world: World):
    # The registry is away, so that nothing can be done with the records.
    cleaner = world.started()
    name = f'cleaner_lag_records{{partition="3",topic="{topics.raw(Entity.PRODUCTS)}"}}'
    eventually(lambda: cleaner.metrics().get(name) == 0, "no lag")
    world.stack.kill(Server.REGISTRY)
    try:
        world.send(Entity.PRODUCTS, *[world.value(Entity.PRODUCTS)] * 30, partition=3)
        eventually(lambda: cleaner.metrics().get(name) == 30, "30 records to do")
    finally:
        world.stack.start(Server.REGISTRY)
        world.stack.wait_ready(Server.REGISTRY)
    eventually(lambda: cleaner.metrics().get(name) == 0, "they are done")


def test_it_is_ready_when_it_has_its_share_and_not_before(world: World):
    # One that is not told apart from a dead one for ten seconds: so long the group gives the other nothing.
    stuck = world.started(KAFKA_SESSION_TIMEOUT_S="10")
    stuck.process.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    cleaner = world.start()
    eventually(lambda: world.log.read_text().count("cleaner starts") == 2, "it asks for its share")
    eventually(lambda: cleaner.at.ask("/readyz") == (503, "not ready: assigned\n"), "it says what it lacks")
    eventually(cleaner.is_ready, "it is ready")
    assert time.monotonic() - stopped_at > 4
    eventually(lambda: len(lags(cleaner)) == len(Entity) * len(PARTITIONS), "its share is everything")


@pytest.mark.long
def test_it_is_not_ready_while_partitions_are_given_anew(world: World):
    # The first has to hand its share back, which takes until the stopped one is given up: by then a third has come.
    first, second = (world.started(KAFKA_SESSION_TIMEOUT_S="20") for _ in range(2))
    second.process.send_signal(signal.SIGSTOP)
    world.start()
    eventually(lambda: first.at.ask("/readyz")[0] == 503, "it has no share any more")
    eventually(first.is_ready, "it has one again")


@pytest.mark.parametrize("server", [Server.REGISTRY])
def test_it_is_not_ready_while_the_registry_never_answered(world: World, server: Server):
    world.stack.kill(server)
    try:
        cleaner = world.start()
        eventually(lambda: "does not answer" in world.log.read_text(), "it says what it waits for")
        assert cleaner.at.ask("/readyz")[0] == 503
        assert cleaner.at.ask("/healthz")[0] == 200
    finally:
        world.stack.start(server)
        world.stack.wait_ready(server)
    eventually(cleaner.is_ready, "it is ready once the registry answers")
