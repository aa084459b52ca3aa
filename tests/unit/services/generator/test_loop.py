"""The four threads, on topics in memory that acknowledge late and in any order."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from services.generator.faults import Fault
from services.generator.loop import publish_changes, publish_sales
from services.generator.records import ProducerBatch, ProducerRecord
from services.generator.retailer.catalogue import SPECS
from services.generator.retailer.market import Market
from services.generator.retailer.supply import SoldPieces, Supply
from services.generator.timing.baskets import Baskets
from services.generator.timing.latency import Latency
from services.generator.timing.timeline import Progress, simulated
from services.generator.timing.traffic import Traffic
from tests.harness.generator_streams import HOSTILE, SECOND, START, dimension_stream, every_row, rows, sales_stream

HOUR = 3600 * SECOND


class Topic:
    """A topic in memory. It acknowledges a few records whenever the sales have to wait, in any order."""

    def __init__(self, delays: random.Random, waits: list[None], supply: Supply | None = None) -> None:
        self.sent: list[ProducerRecord] = []
        self.ids: set[int] = set()
        self._waiting: list[ProducerRecord] = []
        self._delays = delays
        self._waits = waits
        self._seen = 0
        self._supply = supply

    def send(self, batch: ProducerBatch) -> None:
        self.sent += batch.records()
        self._waiting += batch.records()

    def poll(self, now: bool = False) -> None:
        if self._seen != len(self._waits):
            self._seen = len(self._waits)
            self._acknowledge(self._delays.randrange(1, 40))

    def idle(self) -> None:
        self.poll()
        time.sleep(0)

    def flush(self) -> None:
        self._acknowledge(len(self._waiting))

    def _acknowledge(self, count: int) -> None:
        self._delays.shuffle(self._waiting)
        now, self._waiting = self._waiting[:count], self._waiting[count:]
        for record in now:
            if record.value is not None:
                self.ids.add(record.id)
            if self._supply is not None:
                self._supply.delivered(ProducerBatch.of([record]))


class SalesTopic(Topic):
    """Collects the sales that refer to an id that was not on its topic when they were sent."""

    def __init__(self, others: dict[Entity, Topic], waits: list[None]) -> None:
        super().__init__(random.Random(0), waits)
        self._others = others
        self.unknown: list[dict] = []

    def send(self, batch: ProducerBatch) -> None:
        for row in rows(Entity.SALES, batch.records()):
            if any(row[FIELDS[e].key] not in t.ids for e, t in self._others.items()):
                self.unknown.append(row)
        super().send(batch)

    def idle(self) -> None:
        self._waits.append(None)
        time.sleep(0)


def run(
    seed: int, interleaving: int, sales: int = 3000, **spec: Any
) -> tuple[dict[Entity, list[ProducerRecord]], list[dict]]:
    stop, progress = threading.Event(), Progress(0)
    traffic = {e: Traffic(f"{seed}/{e}", HOSTILE, 4 if e is Entity.SALES else 0) for e in Entity}
    timeline = simulated(
        START, 200, 40, paced=False, max_sales=sales, progress=progress, traffic=traffic, baskets=Baskets(seed)
    )
    supplies: dict[Entity, Supply] = {e: Supply() for e in DIMENSIONS}
    rng = random.Random(interleaving)
    # The dimensions are barely far enough for the sales, by a random time.
    late = replace(
        timeline,
        changes_clock=lambda: progress.sales_us - rng.randrange(SECOND) * (progress.sales_us < timeline.until_us),
    )
    waits: list[None] = []
    others: dict[Entity, Topic] = {
        e: Topic(random.Random(f"{interleaving}/{e}"), waits, supplies[e]) for e in DIMENSIONS
    }
    sold = SalesTopic(others, waits)
    market, pieces = Market(HOUR), SoldPieces()
    sold_by = {e: pieces if e is Entity.PRODUCTS else None for e in DIMENSIONS}
    with ThreadPoolExecutor(4) as threads:
        running = []
        for e in DIMENSIONS:
            stream = dimension_stream(e, HOSTILE, f"{seed}/{e}", **spec)
            running.append(
                threads.submit(publish_changes, stream, supplies[e], late, others[e], stop, progress, sold_by[e])
            )
        stream_of_sales = sales_stream(HOSTILE, seed, Latency(30 * SECOND), partitions=4)
        running.append(
            threads.submit(
                publish_sales, stream_of_sales, supplies, timeline, sold, stop, sales, progress, market, pieces, []
            )
        )
        try:
            for thread in running:
                thread.result(timeout=60)
        finally:
            stop.set()
    return {Entity.SALES: sold.sent, **{e: t.sent for e, t in others.items()}}, sold.unknown


@pytest.mark.parametrize("spec", [{}, {"size": 15, "new_share": 0.5}], ids=["growing", "level"])
def test_the_records_are_the_same_whenever_they_are_acknowledged(spec: dict[str, Any]) -> None:
    first, _ = run(seed=5, interleaving=1, **spec)
    again, _ = run(seed=5, interleaving=2, **spec)
    assert first == again
    assert len(first[Entity.SALES]) == 3000
    other, _ = run(seed=6, interleaving=1, **spec)
    assert all(other[e] != first[e] for e in Entity)


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 2**31), interleaving=st.integers(0, 2**31))
def test_no_sale_refers_to_an_id_that_is_not_on_its_topic_yet(seed: int, interleaving: int) -> None:
    records, unknown = run(seed, interleaving, sales=2000)
    assert unknown == []
    # New customers came while sales were made, or there was nothing to wait for.
    assert max(r.id for r in records[Entity.CUSTOMERS]) > SPECS[Entity.CUSTOMERS].initial


@pytest.mark.parametrize("spec", [{}, {"size": 15, "new_share": 0.5}], ids=["planted", "replaced"])
def test_no_sale_after_a_tombstone_refers_to_the_deleted_id(spec: dict[str, Any]) -> None:
    records, unknown = run(seed=9, interleaving=1, **spec)
    assert unknown == []
    deleted = {(e, r.id): r.at_us for e in DIMENSIONS for r in records[e] if r.value is None}
    sales = records[Entity.SALES]
    for record, row in zip(sales, every_row(Entity.SALES, sales), strict=True):
        if row is not None and Fault.DUPLICATE not in record.faults:
            for e in DIMENSIONS:
                assert record.at_us <= deleted.get((e, row[FIELDS[e].key]), record.at_us)
    assert len(deleted) > (200 if spec else 0)
