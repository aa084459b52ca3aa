"""What each of the four threads does until it is stopped or done."""

import threading
from collections.abc import Mapping
from typing import Protocol

from retail_stream.entities import Entity
from services.generator.dimension import DimensionStream
from services.generator.market import Market
from services.generator.records import Record
from services.generator.sales import BLOCK, SalesStream
from services.generator.supply import Supply, boundary, last_of_cell
from services.generator.timeline import Progress, Timeline

_TICK_RECORDS = 1000


class Outlet(Protocol):
    """Where a thread's records go, see publisher.py."""

    def send(self, record: Record) -> None: ...

    def idle(self) -> None: ...

    def poll(self) -> None: ...

    def flush(self) -> None: ...


def change(
    stream: DimensionStream, supply: Supply, timeline: Timeline, publisher: Outlet, stop: threading.Event
) -> None:
    """A dimension: what is missing of the initial catalogue at once, then changes when they are due."""
    schedule = timeline.changes()
    for known in stream.known(timeline.start_us):
        supply.change(known, on_topic=True)
    for made in stream.initial(timeline.start_us):
        supply.change(made.changes[0], on_topic=False)
        publisher.send(made.record)
    while not stop.is_set():
        now = min(timeline.changes_clock(), timeline.until_us)
        schedule.skip(now)
        slots = schedule.take(now, now, _TICK_RECORDS)
        for at_us in slots:
            made = stream.change(at_us)
            for c in made.changes:
                supply.change(c, on_topic=not made.is_new)
            publisher.send(made.record)
        following = schedule.next_slot(now)
        supply.made(before_us=following)
        if following > timeline.until_us:
            break
        if len(slots) < _TICK_RECORDS:
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
        for record in stream.block(slots, market):
            while record.at_us > now and not stop.is_set():
                publisher.idle()
                now = timeline.sales_clock()
            if stop.is_set():
                break
            publisher.send(record)
        publisher.poll()
        left = None if left is None else left - len(slots)
    progress.sales_us = timeline.until_us
    publisher.flush()
