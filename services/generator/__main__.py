"""`python -m services.generator`: the one place where the generator's parts are put together."""

import random
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import numpy as np

from retail_stream import topics
from retail_stream.avro.registry import Registry
from retail_stream.avro.schema import AvroSchema
from retail_stream.entities import JOINED, Entity
from retail_stream.kafka.offsets import require_topics, topic_partitions
from retail_stream.service import readiness
from retail_stream.service.program import Program, leave, run_program
from retail_stream.topics import Result
from retail_stream.waiting import Outage
from services.generator.loop import publish_changes, publish_sales, wait_for_threads
from services.generator.publishing import evolution
from services.generator.publishing.claim import Claim
from services.generator.publishing.encoding import ColumnEncoder, RowEncoder
from services.generator.publishing.ledger import Ledger
from services.generator.publishing.producers import SETTLING_S
from services.generator.publishing.publisher import Publisher
from services.generator.publishing.transactions import Transactions
from services.generator.records import Evolution
from services.generator.retailer.dimension import DimensionStream
from services.generator.retailer.market import Market
from services.generator.retailer.pools import Pools
from services.generator.retailer.sales import VOCABULARIES, SalesStream
from services.generator.retailer.stock import Stock
from services.generator.retailer.supply import SoldPieces, Supply
from services.generator.settings import CHANGES_PER_S, SALES_PER_S, GeneratorSettings
from services.generator.state.reading import StateReader
from services.generator.timing import timeline as timelines
from services.generator.timing.baskets import Baskets
from services.generator.timing.latency import Latency
from services.generator.timing.schedule import SECOND_US
from services.generator.timing.timeline import Progress, Timeline
from services.generator.timing.traffic import Traffic


def main() -> int:
    """Run until SIGTERM or the last sale (0), a wrong setting (2), or an error that a person must look at (1)."""
    return run_program("generator", GeneratorSettings, generate)


def generate(program: Program, settings: GeneratorSettings) -> None:
    """Go on from what the topics hold, until the program is to stop or the last sale is published."""
    stop = program.stop
    registry = Registry(settings.schema_registry_url)
    schemas: dict[Entity, AvroSchema] = {e: topics.topic(topics.raw(e)).schema() for e in Entity}
    schema_ids = {e: _register(program, registry, topics.raw(e), schemas[e]) for e in Entity}
    faults_schema = topics.topic(Result.FAULTS).schema()
    ledger = Ledger(faults_schema, _register(program, registry, Result.FAULTS, faults_schema))
    outage = Outage(SETTLING_S)
    claim = Claim(settings)
    transactions = {e: Transactions(settings, e, stop, outage, claim) for e in Entity}
    program.wait(partial(require_topics, settings, [*map(topics.raw, Entity), Result.FAULTS, Result.STATE]))
    # Before anything is read: an earlier generator can write no more, and its open transactions are aborted.
    for take in (claim.take, *(t.open for t in transactions.values())):
        program.wait(take)
    partitions = len(program.wait(partial(topic_partitions, settings, topics.raw(Entity.SALES))))
    states, sales_state, stock = program.wait(StateReader(settings, registry, schemas).read)
    tallies = {**{e: states[e].tally for e in JOINED}, Entity.SALES: sales_state.tally}

    seed = secrets.randbits(32) if settings.generator_seed is None else settings.generator_seed
    progress = Progress(0)
    traffic = {e: Traffic(f"{seed}/{e}", settings.faults, partitions if e is Entity.SALES else 0) for e in Entity}
    baskets = Baskets(seed, sales_state.tally.next_id)
    timeline = _timeline(settings, max(t.newest_us for t in tallies.values()), progress, traffic, baskets)
    progress.sales_us = timeline.start_us
    program.starts(
        seed=seed,
        time="simulated" if settings.simulated else "live",
        start=datetime.fromtimestamp(timeline.start_us / SECOND_US, UTC).isoformat(),
        sales_per_s=settings.generator_sales_per_s,
        changes_per_s=settings.generator_changes_per_s,
        next_sale=sales_state.tally.next_id,
        **{f"next_{e}": tallies[e].next_id for e in JOINED},
    )
    pools = Pools(seed)
    evolve_us, evolved_ids = None, {}
    if settings.generator_evolve_after_s is not None:
        evolve_us = timeline.start_us + int(settings.generator_evolve_after_s * SECOND_US)
        evolved_ids = {e: _register(program, registry, topics.raw(e), evolution.schema(e)) for e in Entity}
    dimensions = {
        e: DimensionStream(
            settings.spec(e),
            random.Random(f"{seed}/{e}/{tallies[e].records}"),
            pools,
            settings.faults,
            RowEncoder(schemas[e], schema_ids[e]),
            states[e],
            None if evolve_us is None else Evolution(evolve_us, evolution.row_encoder(e, evolved_ids[e])),
            Stock(stock.delivered, stock.sold) if e is Entity.PRODUCTS else None,
        )
        for e in JOINED
    }
    latency = Latency(int(settings.latency_max_s * SECOND_US), settings.latency_distribution)
    sales = SalesStream(
        np.random.default_rng([seed, sales_state.tally.next_id]),
        settings.faults,
        latency,
        ColumnEncoder(schemas[Entity.SALES], schema_ids[Entity.SALES], VOCABULARIES),
        sales_state,
        partitions,
        None if evolve_us is None else Evolution(evolve_us, evolution.column_encoder(evolved_ids[Entity.SALES])),
    )
    max_sales = settings.generator_max_sales
    supplies: dict[Entity, Supply] = {e: Supply() for e in JOINED}
    # Their deletes were cut off, so they come with the first sales.
    closed = [i for i in stock.sold if i not in states[Entity.PRODUCTS].rows]
    market, sold = Market(latency.longest_us), SoldPieces()
    publishers = {
        e: Publisher(e, transactions[e], ledger, stop, tally, supplies.get(e), stock.sold)
        for e, tally in tallies.items()
    }
    program.health.needs(running=lambda: not stop.is_set(), kafka=readiness.kafka_answers(settings))
    with ThreadPoolExecutor(max_workers=len(Entity), thread_name_prefix="generator") as threads:
        changing = [
            threads.submit(
                publish_changes,
                dimensions[e],
                supplies[e],
                timeline,
                publishers[e],
                stop,
                progress,
                sold if e is Entity.PRODUCTS else None,
            )
            for e in JOINED
        ]
        selling = threads.submit(
            publish_sales,
            sales,
            supplies,
            timeline,
            publishers[Entity.SALES],
            stop,
            max_sales,
            progress,
            market,
            sold,
            closed,
        )
        counts = {e: p.counts for e, p in publishers.items()}
        wait_for_threads(changing, selling, counts, stop, simulated=settings.simulated)


def _register(program: Program, registry: Registry, topic: str, schema: AvroSchema) -> int:
    return program.wait(partial(registry.register, topics.topic(topic).subject, schema))


def _timeline(
    settings: GeneratorSettings,
    newest_us: int,
    progress: Progress,
    traffic: Mapping[Entity, Traffic],
    baskets: Baskets,
) -> Timeline:
    sales, changes = settings.generator_sales_per_s, settings.generator_changes_per_s
    if settings.history_from_us is None:
        return timelines.live(sales, changes, traffic, baskets)
    return timelines.simulated(
        # Simulated time never goes back on a topic either.
        max(settings.history_from_us, newest_us + SECOND_US),
        sales or SALES_PER_S,
        changes or CHANGES_PER_S,
        paced=sales > 0 and changes > 0 and settings.generator_backfill_from is None,
        max_sales=settings.generator_max_sales,
        progress=progress,
        traffic=traffic,
        baskets=baskets,
        with_hours=settings.generator_backfill_from is not None,
    )


if __name__ == "__main__":
    leave(main())
