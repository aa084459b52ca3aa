"""The merger as a process of its own, from `products.clean` into `dim_products`, and how fast it was."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, text

from benchmarks.cleaner.contestants import ROOT
from benchmarks.cleaner.world import World
from benchmarks.scd.stream import COLUMNS, Change
from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SEQUENCE_TIME, SOURCE_OFFSET, as_big_endian
from retail_stream.topics import Group
from services.scd_merger.dimensions import clean_schema

TOPIC = topics.clean(Entity.PRODUCTS)
PARTITIONS = 4
_LOOK_EVERY_S = 0.05
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Merging:
    """Publishes changes and lets one merger take them."""

    world: World
    warehouse: Engine

    def rate(self, changes: Sequence[Change], fresh: bool = True) -> float:
        """Changes/s, from the moment that the merger claims the partitions; ``fresh``: into an empty warehouse."""
        starts = self.world.ends(TOPIC)
        self._publish(changes, starts)
        ends = self.world.ends(TOPIC)
        with self.warehouse.begin() as connection:
            if fresh:
                connection.execute(text("TRUNCATE dim_products, products_changes"))
            connection.execute(text("DELETE FROM consumer_positions"))
            for (topic, partition), offset in starts.items():
                connection.execute(
                    text("INSERT INTO consumer_positions VALUES (:g, :t, :p, 0, :o, -1)"),
                    {"g": Group.SCD_MERGER.value, "t": topic, "p": partition, "o": offset},
                )
        with self.warehouse.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE dim_products, products_changes"))
        return self._watch(sum(starts.values()), sum(ends.values()))

    def _watch(self, begin: int, end: int) -> float:
        env = {**os.environ, **self.world.env, "METRICS_PORT": "0", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "services.scd_merger"]
        log = self.world.folder / "merger.log"
        process = self.world.processes.spawn("merger", command, log=log, env=env, cwd=ROOT)
        began = None
        deadline = time.monotonic() + _PATIENCE_S
        try:
            while time.monotonic() < deadline and process.poll() is None:
                claimed, position = self._state()
                if claimed and began is None:
                    began = time.monotonic()
                if began and position == end:
                    return (end - begin) / (time.monotonic() - began)
                time.sleep(_LOOK_EVERY_S)
            raise TimeoutError(f"the merger did not get to the end: {process.last_lines()}")
        finally:
            process.terminate()
            process.wait(30)

    def _state(self) -> tuple[bool, int]:
        """Whether the partitions were claimed, and the sum of their positions."""
        query = text("SELECT min(epoch), sum(next_offset) FROM consumer_positions WHERE topic = :topic")
        with self.warehouse.connect() as connection:
            epoch, position = connection.execute(query, {"topic": TOPIC}).one()
        return bool(epoch), int(position or 0)

    def _publish(self, changes: Sequence[Change], starts: dict[tuple[str, int], int]) -> None:
        writer = RecordSchema(clean_schema(Entity.PRODUCTS))
        number = Registry(self.world.connections.schema_registry_url).register(
            topics.topic(TOPIC).subject, writer.schema
        )
        producer = clients.producer(self.world.connections)
        offsets = {p: starts[TOPIC, p] for p in range(PARTITIONS)}
        for change in changes:
            record = dict(zip(COLUMNS, change, strict=True))
            deleted = record.pop("deleted")
            value = None if deleted else frame(number, encode(writer.plain, record))
            partition = change[0] % PARTITIONS
            headers = [(SOURCE_OFFSET, as_big_endian(offsets[partition])), (SEQUENCE_TIME, as_big_endian(change[1]))]
            offsets[partition] += 1
            while True:
                try:
                    producer.produce(
                        TOPIC, value, str(change[0]), partition, headers=headers if deleted else headers[:1]
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush()
