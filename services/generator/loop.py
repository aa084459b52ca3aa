"""The loops of the four threads, and the wait for their end."""

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Protocol

import structlog

from retail_stream.entities import Entity
from services.generator.faults import Fault
from services.generator.metrics import Counts
from services.generator.records import ProducerBatch
from services.generator.retailer.dimension import DimensionStream
from services.generator.retailer.market import Market
from services.generator.retailer.sales import BLOCK, SalesStream
from services.generator.retailer.supply import CELL_US, SoldPieces, Supply, boundary, counted_before, last_of_cell
from services.generator.timing.timeline import Progress, Timeline

_TICK_RECORDS = 1000
_LOG_EVERY_S = 10.0
_log = structlog.get_logger("services.generator")


class RecordSink(Protocol):
    """Where a thread's records go, see publishing/publisher.py."""

    def send(self, batch: ProducerBatch) -> None: ...

    def idle(self) -> None: ...

    def poll(self, now: bool = False) -> None: ...

    def flush(self) -> None: ...


def publish_changes(
    stream: DimensionStream,
    supply: Supply,
    timeline: Timeline,
    publisher: RecordSink,
    stop: threading.Event,
    progress: Progress,
    sold: SoldPieces | None = None,
) -> None:
    """Publish a dimension: the missing initial rows at once, then changes when they are due.

    ``sold``: of the products, whose changes wait for the sales that their stock counts.
    """
    schedule = timeline.changes(stream.entity)
    for known in stream.known(timeline.start_us):
        supply.add(known, on_topic=True)
    initial = list(stream.initial(timeline.start_us))
    for change in initial:
        supply.add(change.availabilities[0], on_topic=False)
    publisher.send(ProducerBatch.of([change.record for change in initial]))
    while not stop.is_set():
        now = min(timeline.changes_clock(), timeline.until_us)
        if sold is not None:
            now = min(now, last_of_cell(timeline.start_us, progress.sales_us + timeline.counted_after_us))
        schedule.skip(now)
        slots = schedule.take(now, now, _TICK_RECORDS)
        records = []
        for row, at_us in enumerate(slots.at_us.tolist()):
            if sold is not None:
                stream.sold(sold.take(counted_before(timeline.start_us, at_us, timeline.counted_after_us)))
            change = stream.change(at_us, slots.marks.get(row))
            for availability in change.availabilities:
                supply.add(availability, on_topic=availability.id != change.record.id)
            records.append(change.record)
        publisher.send(ProducerBatch.of(records))
        following = schedule.next_slot(now)
        supply.made(before_us=following)
        if following > timeline.until_us:
            break
        if len(slots) < _TICK_RECORDS:
            publisher.poll(now=timeline.behind())
            publisher.idle()
        else:
            publisher.poll()
    publisher.flush()


def publish_sales(
    stream: SalesStream,
    supplies: Mapping[Entity, Supply],
    timeline: Timeline,
    publisher: RecordSink,
    stop: threading.Event,
    max_sales: int | None,
    progress: Progress,
    market: Market,
    sold: SoldPieces,
    closed: list[int],
) -> None:
    """Publish sales: a block's sales know the same state of the dimensions, and each is published when it is due.

    ``market``: an empty one; ``sold``: gets the pieces of each block; ``closed``: products that are gone already.
    """
    left = max_sales
    while not stop.is_set() and left != 0:
        now = timeline.sales_clock()
        timeline.sales.skip(now)
        first = timeline.sales.next_slot(now)
        progress.sales_us = first
        known = boundary(timeline.start_us, first)
        if first > now or not all(s.ready(known) for s in supplies.values()):
            publisher.idle()
            continue
        for entity, supply in supplies.items():
            news = supply.take(known)
            market.shelves[entity].apply(news)
            closed += [a.id for a in news if a.closed and entity is Entity.PRODUCTS]
        last = last_of_cell(timeline.start_us, first)
        # Where sales come as fast as possible, each basket of a block takes a microsecond before now.
        market.stores.begin(known + CELL_US - BLOCK, last + 1)
        if any(shelf.empty for shelf in market.shelves.values()):
            publisher.idle()
            continue
        slots = timeline.sales.take(now, last, min(BLOCK, left or BLOCK))
        block = stream.block(slots, market)
        block.closed, closed = closed, []
        sold.add(known + CELL_US, stream.sold)
        _release(block, timeline, publisher, stop)
        left = None if left is None else left - len(slots)
    progress.sales_us = timeline.until_us
    publisher.flush()


def _release(block: ProducerBatch, timeline: Timeline, publisher: RecordSink, stop: threading.Event) -> None:
    """Publish each record of a block when it is due. A stop drops the records that are not due yet."""
    released = 0
    while not stop.is_set():
        due = bisect_right(block.at_us, timeline.sales_clock())
        if due > released:
            publisher.send(block.part(released, due))
            released = due
        if released == len(block):
            publisher.poll()
            return
        publisher.idle()


def wait_for_threads(
    changing: Sequence[Future[None]],
    selling: Future[None],
    counts: Mapping[Entity, Counts],
    stop: threading.Event,
    simulated: bool,
) -> None:
    """Log the counts until all threads have ended. A failed thread stops the others, and so does the last live sale.

    Raises:
        RetailStreamError: that of the first thread that failed.
    """
    running = {selling, *changing}
    try:
        while running:
            done, running = wait(running, timeout=_LOG_EVERY_S, return_when=FIRST_COMPLETED)
            for thread in done:
                thread.result()
            if selling.done() and not simulated:
                stop.set()
            if not done or not running:
                planted: Counter[Fault] = sum((c.faults for c in counts.values()), start=Counter())
                faults = {str(f): n for f, n in sorted(planted.items())}
                _log.info("published", **{str(e): c.records for e, c in counts.items()}, faults=faults)
    finally:
        stop.set()
