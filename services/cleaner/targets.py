"""The clean schemas: registered under ``<entity>.clean`` before the first record that needs them is forwarded."""

from collections.abc import Mapping
from functools import partial

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.registry import Registry
from retail_stream.avro.schema import plain_schema
from retail_stream.entities import Entity
from retail_stream.waiting import Wait
from services.cleaner.clean import Target, clean_schema


class Targets:
    """Clean schemas by raw schema id; a registry that is away is waited for."""

    def __init__(self, registry: Registry, entity: Entity, wait: Wait) -> None:
        """Nothing is registered until a raw schema id is asked for. ``wait``: waits for a registry that is away."""
        self._wait = wait
        self._registry = registry
        self._entity = entity
        self._targets: dict[int, Target] = {}

    def get(self, writers: Mapping[int, RecordSchema]) -> Mapping[int, Target]:
        """Targets of all the given raw schemas."""
        for number, writer in writers.items():
            if number not in self._targets:
                schema = clean_schema(self._entity, writer.schema)
                subject = topics.topic(topics.clean(self._entity)).subject
                clean_id = self._wait(partial(self._registry.register, subject, schema))
                self._targets[number] = Target(clean_id, plain_schema(schema))
        return self._targets
