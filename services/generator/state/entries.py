"""What `generator.state` holds, and how it follows from what is published. Pure.

================  ====================================================================================
key               value
================  ====================================================================================
``customers``     the tally of the entity, as JSON; so for ``products``, ``stores`` and ``sales``
``customers/17``  the newest row of the id, in the bytes of its raw record; deleted with the id
``generator``     the name of the generator that started last, see publishing/claim.py
================  ====================================================================================

The entries of a batch are in the transaction of its records, so both are on the topics or neither is.
"""

import json
from collections.abc import Iterator, Mapping

from retail_stream.entities import Entity
from services.generator.records import NO_FAULTS, ProducerBatch, Tally
from services.generator.retailer.dimension import NEVER_NEWEST

_Value = bytes | None


def entries(entity: Entity, batch: ProducerBatch, tally: Tally) -> dict[bytes, bytes | None]:
    """Key → value, None to delete it, of everything that a batch changed. ``tally``: of the entity after the batch."""
    changed: dict[bytes, _Value] = {}
    if entity is not Entity.SALES:
        for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            if NEVER_NEWEST.isdisjoint(batch.faults.get(row, NO_FAULTS)):
                changed[_prefix(entity) + key] = value
    changed[entity.encode()] = json.dumps(tally._asdict()).encode()
    return changed


def stored_tally(entity: Entity, stored: Mapping[bytes, bytes]) -> Tally | None:
    """The tally of an entity in the entries of the topic; None where it has none."""
    value = stored.get(entity.encode())
    return None if value is None else Tally(**json.loads(value))


def stored_rows(entity: Entity, stored: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """The raw records' values of a dimension's newest rows, in no order."""
    prefix = _prefix(entity)
    return (value for key, value in stored.items() if key.startswith(prefix))


def _prefix(entity: Entity) -> bytes:
    return entity.encode() + b"/"
