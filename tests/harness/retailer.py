"""The whole retailer without servers, in one thread: the records of all entities, and what a restart goes on from."""

import random
import threading
from dataclasses import dataclass, field, replace

import numpy as np

from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from services.generator.faults import Fault, Probabilities
from services.generator.loop import publish_sales
from services.generator.records import ProducerBatch, ProducerRecord, Tally
from services.generator.retailer.catalogue import SPECS
from services.generator.retailer.changes import DimensionState
from services.generator.retailer.dimension import DimensionStream
from services.generator.retailer.market import Market
from services.generator.retailer.sales import SalesState, SalesStream
from services.generator.retailer.stock import Stock
from services.generator.retailer.supply import SoldPieces, Supply, counted_before
from services.generator.state.entries import entries, sold_entries, stored_pieces, stored_rows
from services.generator.timing.baskets import Baskets
from services.generator.timing.latency import Latency
from services.generator.timing.schedule import Schedule
from services.generator.timing.timeline import Progress, simulated
from services.generator.timing.traffic import CALM
from tests.harness.generator_streams import COLUMNS, POOLS, READERS, SECOND, encoder

_ALL = 1_000_000


class LazySupply(Supply):
    """A dimension's supply that makes the changes when the sales ask whether they are made."""

    def __init__(
        self,
        stream: DimensionStream,
        schedule: Schedule,
        start_us: int,
        topic: "Topic",
        sold: SoldPieces,
        after_us: int,
    ) -> None:
        super().__init__()
        self._stream, self._schedule, self._start, self._topic = stream, schedule, start_us, topic
        self._sold, self._after = sold, after_us
        known, initial = stream.known(start_us), list(stream.initial(start_us))
        for availability in known + [a for c in initial for a in c.availabilities]:
            self.add(availability, on_topic=True)
        topic.send(ProducerBatch.of([change.record for change in initial]))

    def ready(self, boundary_us: int) -> bool:
        made = []
        for at_us in self._schedule.take(boundary_us, boundary_us, _ALL).at_us.tolist():
            if self._stream.entity is Entity.PRODUCTS:
                self._stream.sold(self._sold.take(counted_before(self._start, at_us, self._after)))
            change = self._stream.change(at_us)
            made.append(change.record)
            for availability in change.availabilities:
                self.add(availability, on_topic=True)
        self._topic.send(ProducerBatch.of(made))
        return True


class Topic:
    """A topic in memory, and the entries of `generator.state` that come with its records."""

    def __init__(self, entity: Entity, stored: dict[bytes, bytes], tally: Tally, sold: dict[int, int]) -> None:
        self.records: list[ProducerRecord] = []
        self.tally = tally
        self._entity, self._stored, self._sold = entity, stored, sold

    def send(self, batch: ProducerBatch) -> None:
        self.records += batch.records()
        self.tally = self.tally.after(batch)
        changed = entries(self._entity, batch, self.tally) | sold_entries(batch, self._sold)
        for key, value in changed.items():
            if value is None:
                self._stored.pop(key, None)
            else:
                self._stored[key] = value

    def poll(self, now: bool = False) -> None: ...

    def flush(self) -> None: ...

    def idle(self) -> None:
        raise AssertionError("the sales wait for something that never comes")


@dataclass
class Retailer:
    """A retailer whose runs follow each other, each from the state that the one before has left."""

    faults: Probabilities
    sales_per_s: float
    changes_per_s: float
    counted_after_us: int
    stored: dict[bytes, bytes] = field(default_factory=dict)
    records: dict[Entity, list[ProducerRecord]] = field(default_factory=lambda: {e: [] for e in Entity})
    tallies: dict[Entity, Tally] = field(default_factory=lambda: dict.fromkeys(Entity, Tally()))
    starts: list[int] = field(default_factory=list)

    def run(self, start_us: int, sales: int, seed: int, with_hours: bool = False) -> None:
        """Publish so many sales."""
        self.starts.append(start_us)
        progress, sold, latency = Progress(0), SoldPieces(), Latency(30 * SECOND)
        timeline = simulated(
            start_us,
            self.sales_per_s,
            self.changes_per_s,
            paced=False,
            max_sales=sales,
            progress=progress,
            traffic=dict.fromkeys(Entity, CALM),
            baskets=Baskets(seed),
            with_hours=with_hours,
        )
        timeline = replace(timeline, counted_after_us=self.counted_after_us)
        pieces = stored_pieces(self.stored)
        topics = {e: Topic(e, self.stored, self.tallies[e], pieces.sold) for e in Entity}
        supplies: dict[Entity, Supply] = {}
        for e in DIMENSIONS:
            key, values = FIELDS[e].key, [*stored_rows(e, self.stored)]
            rows = {row[key]: row for row in READERS[e].read(values, {1: READERS[e]}).table.iter_rows(named=True)}
            stock = Stock(dict(pieces.delivered), dict(pieces.sold)) if e is Entity.PRODUCTS else None
            state, rng = DimensionState(rows, self.tallies[e]), random.Random(f"{seed}/{e}")
            stream = DimensionStream(SPECS[e], rng, POOLS, self.faults, encoder(e), state, stock=stock)
            supplies[e] = LazySupply(stream, timeline.changes(e), start_us, topics[e], sold, timeline.counted_after_us)
        state_of_sales = SalesState(self.tallies[Entity.SALES])
        stream_of_sales = SalesStream(np.random.default_rng(seed), self.faults, latency, COLUMNS, state_of_sales)
        market, stop = Market(latency.longest_us), threading.Event()
        publish_sales(
            stream_of_sales, supplies, timeline, topics[Entity.SALES], stop, sales, progress, market, sold, []
        )
        for entity, topic in topics.items():
            self.records[entity] += topic.records
            self.tallies[entity] = topic.tally

    def valid(self, entity: Entity, *without: Fault) -> list[ProducerRecord]:
        """The records that have none of these faults."""
        return [r for r in self.records[entity] if not set(without) & set(r.faults)]
