"""Merger and aggregator in this process, so that mistakes can be made in them; and how far they are."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg

from retail_stream.entities import Entity
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.service.program import Program
from retail_stream.settings import Connections
from retail_stream.topics import clean
from services.aggregator.__main__ import aggregate
from services.aggregator.settings import AggregatorSettings
from services.scd_merger.__main__ import merge
from services.scd_merger.settings import MergerSettings
from tests.harness.eventually import eventually

#: Nothing is idle before all is read, so watermarks come from the sales only.
SETTINGS = {
    "SALES_WINDOWS": "1m,2m/1m",
    "WATERMARK_DELAY_S": "10",
    "ALLOWED_LATENESS_S": "60",
    "IDLE_TIMEOUT_S": "3600",
}


def fill(connections: Connections) -> None:
    """Run a merger and an aggregator until the warehouse has all clean records, and the topics all results."""
    with _running(connections):
        eventually(lambda: _have_read_all(connections), "merger and aggregator have read all", every_s=0.1)


@contextmanager
def _running(connections: Connections) -> Iterator[None]:
    values = {**connections.model_dump(), "metrics_port": 0, **{n.lower(): v for n, v in SETTINGS.items()}}
    merger, aggregator = Program("scd_merger"), Program("aggregator")
    with ThreadPoolExecutor(2) as threads:
        both = [
            threads.submit(merge, merger, MergerSettings.model_validate(values)),
            threads.submit(aggregate, aggregator, AggregatorSettings.model_validate(values)),
        ]
        try:
            yield
        finally:
            merger.stop.set()
            aggregator.stop.set()
    for one in both:
        one.result()


def _have_read_all(connections: Connections) -> bool:
    ends = end_offsets(connections, topic_partitions(connections, *map(clean, Entity)))
    with psycopg.connect(connections.database_url) as connection:
        positions = connection.execute("SELECT topic, partition, next_offset FROM public.consumer_positions").fetchall()
        waiting = connection.execute("SELECT count(*) FROM pipeline.outbox").fetchone()
    return {(t, p): n for t, p, n in positions} == dict(ends) and waiting == (0,)
