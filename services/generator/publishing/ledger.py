"""The ledger: one entry for each planted fault, which says where it is and what a pipeline should do with it."""

from collections.abc import Mapping
from itertools import chain

import numpy as np

from retail_stream.avro.schema import AvroSchema
from retail_stream.entities import Entity
from services.generator.publishing.columns import ColumnEncoder
from services.generator.publishing.faults import Expected, Fault, expected
from services.generator.publishing.records import Batch

#: Row of a batch → the partition and offset that it got.
Places = Mapping[int, tuple[int, int]]

_ENTITIES, _FAULTS, _EXPECTED = tuple(Entity), tuple(Fault), tuple(Expected)


class Ledger:
    """Writes entries as Avro; of one batch in the order of its records."""

    def __init__(self, schema: AvroSchema, schema_id: int) -> None:
        """``schema``: of `generator.faults`, as parsed JSON."""
        vocabularies = {"entity": _ENTITIES, "fault": _FAULTS, "expected": _EXPECTED}
        self._encode = ColumnEncoder(schema, schema_id, vocabularies)

    def entries(self, entity: Entity, batch: Batch, places: Places) -> list[bytes]:
        """The entries of all faults of a batch whose records have got their places."""
        outcomes = {faults: tuple(expected(faults).items()) for faults in set(batch.faults.values())}
        rows = [
            (*places[row], batch.ids[row], _FAULTS.index(fault), _EXPECTED.index(outcome))
            for row, faults in batch.faults.items()
            for fault, outcome in outcomes[faults]
        ]
        table = np.fromiter(chain.from_iterable(rows), np.int64, 5 * len(rows)).reshape(-1, 5)
        names = ("partition", "offset", "id", "fault", "expected")
        columns = {name: table[:, i] for i, name in enumerate(names)}
        return self._encode(columns | {"entity": np.full(len(rows), _ENTITIES.index(entity))}, len(rows))
