"""A newer compatible schema in mid-stream: one more field, with a value that follows from the record's id."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from retail_stream.entities import FIELDS, Entity
from retail_stream.topics import SCHEMAS
from services.generator.publishing.columns import ColumnEncoder
from services.generator.publishing.records import Encoder
from services.generator.retailer.arrays import Column
from services.generator.retailer.sales import VOCABULARIES, Encode

#: The field that the evolved schema adds, and what it says.
_ADDED: Mapping[Entity, tuple[str, tuple[str, ...]]] = {
    Entity.SALES: ("channel", ("store", "web", "app")),
    Entity.CUSTOMERS: ("preferred_channel", ("email", "sms", "post")),
    Entity.PRODUCTS: ("season", ("spring", "summer", "autumn", "winter")),
    Entity.STORES: ("region", ("north", "east", "south", "west")),
}


def schema(entity: Entity) -> dict[str, Any]:
    """The evolved schema, as parsed JSON."""
    return json.loads((SCHEMAS / "evolved" / f"{entity}.avsc").read_text())


def rows(entity: Entity, schema_id: int) -> Encoder:
    """Rows of a dimension, of the fields that it always had, to values of the evolved schema."""
    (field, words), key = _ADDED[entity], FIELDS[entity].key

    class Evolved(Encoder):
        def __call__(self, row: Mapping[str, Any]) -> bytes:
            return super().__call__({**row, field: words[row[key] % len(words)]})

    return Evolved(schema(entity), schema_id)


def columns(schema_id: int) -> Encode:
    """The same for columns of sales."""
    field, words = _ADDED[Entity.SALES]
    encode = ColumnEncoder(schema(Entity.SALES), schema_id, {**VOCABULARIES, field: words})

    def evolved(given: Mapping[str, Column], size: int) -> list[bytes]:
        return encode({**given, field: np.asarray(given["transaction_id"] % len(words), np.int64)}, size)

    return evolved
