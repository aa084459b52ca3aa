"""The clean schemas: registered under ``<entity>.clean`` before the first record that needs them is forwarded."""

from collections.abc import Mapping
from functools import partial

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema
from retail_stream.avro.derived import derived_schema
from retail_stream.avro.plan import Branch
from retail_stream.avro.registry import Registry, SchemaRefused
from retail_stream.entities import Entity
from retail_stream.waiting import Wait
from services.cleaner.clean import Target, Targets, clean_encoder


class CleanSchemas:
    """Clean schemas by raw schema id; a registry that is away is waited for."""

    def __init__(self, registry: Registry, entity: Entity, reader: RecordSchema, wait: Wait) -> None:
        """Nothing is registered until a raw schema id is asked for.

        ``reader``: the entity's raw schema. ``wait``: waits for a registry that is away.
        """
        self._wait = wait
        self._registry = registry
        self._reader = reader
        self._encoder = clean_encoder(entity, reader)
        self._subject = topics.topic(topics.clean(entity)).subject
        self._targets: dict[int, Mapping[Branch, Target]] = {}

    def get(self, writers: Mapping[int, RecordSchema]) -> Targets:
        """What records become by raw schema id, at least those of the given raw schemas."""
        for number, writer in writers.items():
            if number not in self._targets:
                plan = writer.plan(self._reader.reader)
                forwards = self._encoder.is_written_by(plan)
                self._targets[number] = {b: self._target(b, forwards=forwards) for b in plan.branches.values()}
        return self._targets

    def _target(self, branch: Branch, *, forwards: bool) -> Target:
        schema = derived_schema(self._encoder.schema, branch)
        try:
            return Target(self._wait(partial(self._registry.register, self._subject, schema, "NONE")), forwards)
        except SchemaRefused as e:
            return Target(0, forwards, str(e))
