"""The ledger: one entry for each planted fault: where its record is and what a pipeline should do with it."""

from collections.abc import Mapping
from itertools import chain

import numpy as np

from retail_stream.avro.schema import AvroSchema
from retail_stream.entities import Entity
from services.generator.faults import Expected, Fault, expected
from services.generator.publishing.encoding import ColumnEncoder
from services.generator.records import ProducerBatch

#: Row of a batch → (partition, offset) of its record.
Locations = Mapping[int, tuple[int, int]]

_ENTITIES, _FAULTS, _EXPECTED = tuple(Entity), tuple(Fault), tuple(Expected)


class Ledger:
    """Encodes ledger entries as Avro, in the order of their records."""

    def __init__(self, schema: AvroSchema, schema_id: int) -> None:
        """``schema``: that of `generator.faults`, as parsed JSON."""
        vocabularies = {"entity": _ENTITIES, "fault": _FAULTS, "expected": _EXPECTED}
        self._encode = ColumnEncoder(schema, schema_id, vocabularies)

    def entries(self, entity: Entity, batch: ProducerBatch, locations: Locations) -> list[bytes]:
        """The entries of all faults of a batch. ``locations``: of every record with a fault."""
        outcomes = {faults: tuple(expected(faults).items()) for faults in set(batch.faults.values())}
        rows = [
            (*locations[row], batch.ids[row], _FAULTS.index(fault), _EXPECTED.index(outcome))
            for row, faults in batch.faults.items()
            for fault, outcome in outcomes[faults]
        ]
        table = np.fromiter(chain.from_iterable(rows), np.int64, 5 * len(rows)).reshape(-1, 5)
        names = ("partition", "offset", "id", "fault", "expected")
        columns = {name: table[:, i] for i, name in enumerate(names)}
        return self._encode(columns | {"entity": np.full(len(rows), _ENTITIES.index(entity))}, len(rows))
