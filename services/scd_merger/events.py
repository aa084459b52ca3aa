"""Clean records as changes of a dimension."""

import re

import polars as pl

from retail_stream.errors import PoisonRecord
from retail_stream.kafka.batches import DELETED, KEY, OFFSET, SEQUENCE
from retail_stream.kafka.offsets import TopicPartitionKey
from services.scd_merger.dimensions import Dimension
from services.scd_merger.kept import without_unfit

_DECIMAL = re.compile(rb"-?[0-9]{1,18}")


def changes(dimension: Dimension, rows: pl.DataFrame, tp: TopicPartitionKey) -> pl.DataFrame:
    """A frame of changes (``dimension.change_schema``) from the ``rows`` of :func:`batches.table`, one each, in order.

    A tombstone's natural key is its Kafka key and its time is ``sequence_time``; its attributes are null.

    Raises:
        PoisonRecord: the key of a tombstone is not a decimal number.
    """
    tombstones = rows.filter(DELETED).select(OFFSET, KEY).rows()
    for offset, key in tombstones:
        if key is None or not _DECIMAL.fullmatch(key):
            raise PoisonRecord(f"{tp[0]}/{tp[1]}@{offset}: the key of this delete is not a decimal id.")
    keys = pl.DataFrame(
        {OFFSET: [o for o, _ in tombstones], "_id": [int(k) for _, k in tombstones]},
        schema={OFFSET: pl.Int64, "_id": pl.Int64},
    )
    made = (
        rows.join(keys, on=OFFSET, how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("_id", dimension.key).alias(dimension.key),
            pl.coalesce(SEQUENCE, dimension.sequence).alias(dimension.sequence),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in dimension.change_schema.items())
    )
    return without_unfit(dimension, made)
