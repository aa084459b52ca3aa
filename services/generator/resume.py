"""What the topics already hold, as the state to go on from. Pure: from batches of records to state.

The key tells an id even where the value is damaged, so that no id is given twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from retail_stream.entities import FIELDS, Entity
from retail_stream.wire import ROW, Decoded
from services.generator.arrays import Ints
from services.generator.dimension import State
from services.generator.faults import FUTURE_US
from services.generator.purchases import Columns, Copy, Purchases
from services.generator.sales import Tail

_TIMESTAMP = "__timestamp_us"


@dataclass(frozen=True)
class Batch:
    """Records of one topic, in order of offset within each partition, and their values decoded."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_us: Sequence[int]
    decoded: Decoded

    def sound(self, time: str) -> pl.DataFrame:
        """The decoded rows whose time is not in the future of their timestamp."""
        at = pl.Series(_TIMESTAMP, self.timestamps_us, dtype=pl.Int64).gather(self.decoded.table[ROW])
        return self.decoded.table.hstack([at]).filter(pl.col(time) <= pl.col(_TIMESTAMP) + FUTURE_US)


def fold(state: State, entity: Entity, batch: Batch) -> State:
    """Take a batch of a dimension's records into ``state``: per id its newest row, and what was deleted."""
    key, time = FIELDS[entity].key, FIELDS[entity].time
    state.records += len(batch.keys)
    state.newest_us = max(state.newest_us, *batch.timestamps_us)
    for raw_key, value in zip(batch.keys, batch.values, strict=True):
        if raw_key is not None and raw_key.isdigit():
            number = int(raw_key)
            state.next_id = max(state.next_id, number + 1)
            if value is None:
                state.deleted.add(number)
                state.rows.pop(number, None)
    newest = batch.sound(time).drop(ROW, _TIMESTAMP).sort(time, maintain_order=True).unique(key, keep="last")
    for row in newest.iter_rows(named=True):
        before = state.rows.get(row[key])
        if row[key] not in state.deleted and (before is None or before[time] <= row[time]):
            state.rows[row[key]] = row
    return state


def tail(batch: Batch) -> Tail:
    """What the last records of all partitions say.

    A record that cannot be read may hold an id beyond the largest that can, so each such record is one id more.
    """
    if not batch.keys:
        return Tail()
    rows = batch.decoded.table
    largest = max(rows["transaction_id"], default=0)
    sound = batch.sound(FIELDS[Entity.SALES].time).filter(pl.col("discount_applied") >= 0)
    sound = sound.unique("transaction_id", keep="first").sort("transaction_id")
    copies = [
        Copy(batch.keys[i] or b"", batch.values[i] or b"", number)
        for i, number in sound.select(ROW, "transaction_id").iter_rows()
    ]
    bought = sound.filter(pl.col("quantity") > 0)
    cents = (bought["unit_price"] * 100).round().cast(pl.Int64)
    purchases = Purchases()
    columns = Columns(
        store=_array(bought["store_id"]),
        customer=_array(bought["customer_id"]),
        product=_array(bought["product_id"]),
        price_cents=_array(cents),
        left=_array(bought["quantity"]),
        event_us=_array(bought["event_time"]),
    )
    purchases.add(columns, copies)
    return Tail(
        next_id=largest + len(batch.decoded.bad) + 1,
        newest_us=max(batch.timestamps_us),
        purchases=purchases,
    )


def _array(column: pl.Series) -> Ints:
    return column.cast(pl.Int64).to_numpy().copy()
