"""A newer, compatible schema in mid-stream: one more field, whose value follows from the record's id."""

import json
from collections.abc import Mapping

import numpy as np

from retail_stream.avro.schema import AvroSchema
from retail_stream.entities import FIELDS, Entity
from retail_stream.topics import SCHEMAS
from services.generator.publishing.encoding import ColumnEncoder, RowEncoder
from services.generator.records import Column, EncodeColumns, EncodeRow
from services.generator.retailer.sales import VOCABULARIES

#: The field that the evolved schema adds, and its values.
_ADDED: Mapping[Entity, tuple[str, tuple[str, ...]]] = {
    Entity.SALES: ("channel", ("store", "web", "app")),
    Entity.CUSTOMERS: ("preferred_channel", ("email", "sms", "post")),
    Entity.PRODUCTS: ("season", ("spring", "summer", "autumn", "winter")),
    Entity.STORES: ("region", ("north", "east", "south", "west")),
}


def schema(entity: Entity) -> AvroSchema:
    """The evolved schema, as parsed JSON."""
    evolved: AvroSchema = json.loads((SCHEMAS / "evolved" / f"{entity}.avsc").read_text())
    return evolved


def row_encoder(entity: Entity, schema_id: int) -> EncodeRow:
    """An encoder of rows of today's schema as records of the evolved one."""
    (field, words), key = _ADDED[entity], FIELDS[entity].key
    encode = RowEncoder(schema(entity), schema_id)
    return lambda row: encode({**row, field: words[row[key] % len(words)]})


def column_encoder(schema_id: int) -> EncodeColumns:
    """An encoder of columns of today's sales as records of the evolved schema."""
    field, words = _ADDED[Entity.SALES]
    encode = ColumnEncoder(schema(Entity.SALES), schema_id, {**VOCABULARIES, field: words})

    def evolved(columns: Mapping[str, Column], size: int) -> list[bytes]:
        return encode({**columns, field: np.asarray(columns["transaction_id"] % len(words), np.int64)}, size)

    return evolved
