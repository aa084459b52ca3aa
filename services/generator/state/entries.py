"""What `generator.state` holds, and how it follows from what is published. Pure.

================  ====================================================================================
key               value
================  ====================================================================================
``customers``     the tally of the entity, as JSON; so for ``products``, ``stores`` and ``sales``
``customers/17``  the newest row of the id, in the bytes of its raw record; deleted with the id
``delivered/17``  pieces of product 17 that were delivered so far, as a decimal; deleted with the id
``sold/17``       pieces of product 17 that were sold so far, less those returned; deleted after the id
``generator``     the name of the generator that started last, see publishing/claim.py
================  ====================================================================================

The entries of a batch are in the transaction of its records, so both are on the topics or neither is. Sales and
products have transactions of their own. The stock is what is delivered less what is sold, whichever a kill cut off.
"""

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from retail_stream.entities import Entity
from services.generator.records import NO_FAULTS, ProducerBatch, Tally
from services.generator.retailer.changes import NEVER_NEWEST

_Value = bytes | None
_DELIVERED, _SOLD = b"delivered/", b"sold/"


def entries(entity: Entity, batch: ProducerBatch, tally: Tally) -> dict[bytes, bytes | None]:
    """Key → value, None to delete it, of everything that a batch changed. ``tally``: of the entity after the batch."""
    changed: dict[bytes, _Value] = {}
    if entity is not Entity.SALES:
        # Before the rows: nothing follows a tombstone.
        for number, pieces in batch.delivered.items():
            changed[_DELIVERED + b"%d" % number] = b"%d" % pieces
        for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            if NEVER_NEWEST.isdisjoint(batch.faults.get(row, NO_FAULTS)):
                changed[_prefix(entity) + key] = value
                if entity is Entity.PRODUCTS and value is None:
                    changed[_DELIVERED + key] = None
    changed[entity.encode()] = json.dumps(tally._asdict()).encode()
    return changed


def sold_entries(batch: ProducerBatch, sold: dict[int, int]) -> dict[bytes, bytes | None]:
    """Key → value of the products that a batch sold or that are closed.

    ``sold``: product → pieces of all batches, to which this one is added.
    """
    moved: dict[int, int] = {}
    for number, pieces in zip(batch.products, batch.pieces, strict=True):
        if pieces:
            moved[number] = moved.get(number, 0) + pieces
    for number, pieces in moved.items():
        sold[number] = sold.get(number, 0) + pieces
    for number in batch.closed:
        sold.pop(number, None)
    numbers = (*moved, *batch.closed)
    return {_SOLD + b"%d" % n: b"%d" % sold[n] if n in sold else None for n in numbers}


class StoredPieces(NamedTuple):
    """Product → pieces delivered, and product → pieces sold. A state of an earlier release has none."""

    delivered: dict[int, int]
    sold: dict[int, int]


def stored_pieces(stored: Mapping[bytes, bytes]) -> StoredPieces:
    """The pieces in the entries of the topic."""
    return StoredPieces(
        *({int(k[len(p) :]): int(v) for k, v in stored.items() if k.startswith(p)} for p in (_DELIVERED, _SOLD))
    )


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
