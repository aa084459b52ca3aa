"""What each of the four threads does until it is stopped or done."""

import threading
from bisect import bisect_right
from collections.abc import Mapping
from typing import Protocol

from retail_stream.entities import Entity
from services.generator.publishing.records import Batch
from services.generator.retailer.dimension import DimensionStream
from services.generator.retailer.market import Market
from services.generator.retailer.sales import BLOCK, SalesStream
from services.generator.retailer.supply import Supply, boundary, last_of_cell
from services.generator.timing.timeline import Progress, Timeline

_TICK_RECORDS = 1000


class Outlet(Protocol):
    """Where a thread's records go, see publisher.py."""

    def send(self, batch: Batch) -> None: ...

    def idle(self) -> None: ...

    def poll(self, now: bool = False) -> None: ...

    def flush(self) -> None: ...


def change(
    stream: DimensionStream, supply: Supply, timeline: Timeline, publisher: Outlet, stop: threading.Event
) -> None:
    """A dimension: what is missing of the initial catalogue at once, then changes when they are due."""
    schedule = timeline.changes(stream.entity)
    for known in stream.known(timeline.start_us):
        supply.change(known, on_topic=True)
    catalogue = list(stream.initial(timeline.start_us))
    for made in catalogue:
        supply.change(made.changes[0], on_topic=False)
    publisher.send(Batch.of([made.record for made in catalogue]))
    while not stop.is_set():
        now = min(timeline.changes_clock(), timeline.until_us)
        schedule.skip(now)
        slots = schedule.take(now, now, _TICK_RECORDS)
        records = []
        for row, at_us in enumerate(slots.at_us.tolist()):
            made = stream.change(at_us, slots.marks.get(row))
            for c in made.changes:
                supply.change(c, on_topic=not made.is_new)
            records.append(made.record)
        publisher.send(Batch.of(records))
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


def sell(
    stream: SalesStream,
    supplies: Mapping[Entity, Supply],
    timeline: Timeline,
    publisher: Outlet,
    stop: threading.Event,
    max_sales: int | None,
    progress: Progress,
) -> None:
    """Sales: in blocks that know the same state of the dimensions, each record published when it is due."""
    market = Market()
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
            market.shelves[entity].apply(supply.take(known))
        if any(shelf.empty for shelf in market.shelves.values()):
            publisher.idle()
            continue
        slots = timeline.sales.take(now, last_of_cell(timeline.start_us, first), min(BLOCK, left or BLOCK))
        _release(stream.block(slots, market), timeline, publisher, stop)
        left = None if left is None else left - len(slots)
    progress.sales_us = timeline.until_us
    publisher.flush()


def _release(block: Batch, timeline: Timeline, publisher: Outlet, stop: threading.Event) -> None:
    """Publish each record of a block when it is due; a stop drops those that are not."""
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
