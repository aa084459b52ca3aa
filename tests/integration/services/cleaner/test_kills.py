"""`kill -9` of a cleaner, twenty times, under load: nothing is lost, and every repeat can be told from a record."""

import itertools
import random
import threading
from collections import Counter

import pytest

from retail_stream import topics
from retail_stream.entities import Entity
from tests.harness.eventually import eventually
from tests.integration.services.cleaner.world import (
    PARTITIONS,
    Outcome,
    Place,
    World,
    assert_nothing_lost_or_invented,
    good_key,
)

KILLS = 20
#: There before the first cleaner starts, so that it works at full speed.
BACKLOG = 50_000
#: And while they are killed, each so often.
BATCH, EVERY_S = 200, 0.05
BAD_EVERY = 17
#: Customers, which are encoded again: more than a cleaner is done with when it commits for the first time.
BURST = 50_000


class Load:
    """Sales that never stop, and bursts of others, in all partitions, every seventeenth of them bad."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._producer = world.producer()
        self._values = {e: [world.value(e)] * (BAD_EVERY - 1) + [world.value(e)[:-1]] for e in Entity}
        self._sent = itertools.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def send(self, count: int, entity: Entity = Entity.SALES) -> None:
        for i in itertools.islice(self._sent, count):
            value, partition = self._values[entity][i % BAD_EVERY], PARTITIONS[i % len(PARTITIONS)]
            while True:
                try:
                    self._producer.produce(topics.raw(entity), value, good_key(entity), partition=partition)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._producer.poll(0)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.send(BATCH)

    def __enter__(self) -> "Load":
        self.send(BACKLOG)
        assert self._producer.flush(60) == 0
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(60) == 0


def told_apart(out: Outcome) -> tuple[list[Place], int]:
    """Clean records by the rule that consumers go by, largest `source.offset` so far, and how many repeats it drops."""
    largest: dict[tuple[Entity, int], int] = {}
    firsts = []
    for place, _ in out.clean:
        if place.offset > largest.get(place[:2], -1):
            largest[place[:2]] = place.offset
            firsts.append(place)
    return firsts, len(out.clean) - len(firsts)


@pytest.mark.long
def test_twenty_kills_lose_nothing_and_leave_only_repeats_that_can_be_told(world: World, capsys: pytest.CaptureFixture):
    rng = random.Random(20)
    with Load(world) as load:
        for kill in range(KILLS):
            done, committed = world.delivered(Entity.SALES), world.committed()
            if kill % 3 == 0:
                # The moment in which it commits, with its hands full: what it commits must be delivered by then.
                load.send(BURST, Entity.CUSTOMERS)
                cleaner = world.start()
                eventually(lambda was=committed: world.committed() != was, "the cleaner commits", every_s=0)
            else:
                # From the very first record on to a good part of a second later.
                cleaner = world.start()
                further = rng.choice((1, 300, 2_000, 8_000)) * rng.uniform(0.5, 1.5)
                eventually(lambda goal=done + further: world.delivered(Entity.SALES) >= goal, "it makes progress")
            assert cleaner.is_running()
            cleaner.kill()
            world.bury()
        last = world.start()
        done = world.delivered(Entity.SALES)
        eventually(lambda: world.delivered(Entity.SALES) > done, "the last cleaner makes progress")
    world.drain()
    assert last.stop() == 0

    out = world.outcome()
    firsts, repeats = told_apart(out)
    dead = Counter(place for place, _ in out.dead)
    with capsys.disabled():
        print(
            f"\n{len(out.raw):,} records, {KILLS} kills: {len(firsts):,} clean and {repeats:,} repeats,"
            f" {len(dead):,} dead letters and {dead.total() - len(dead):,} repeats"
        )
    assert_nothing_lost_or_invented(out, repeats=True)
    assert sorted(firsts) == sorted({place for place, _ in out.clean})
    assert len(firsts) + len(dead) == len(out.raw)
    # Otherwise no kill hit anything in flight, and this test has tested nothing.
    assert repeats > 0
