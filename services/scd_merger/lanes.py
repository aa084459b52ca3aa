"""A large batch in two transactions side by side: while one computes or reads, Postgres writes the other."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.kafka.record_batches.columns import Row

Batch = Mapping[TopicPartitionKey, PartitionRecords]

# A batch of so many records is worth two transactions.
_WORTH_LANES = 2000
_WORD = 8
# Longer keys are not compared; the key of a clean record has at most 20 characters.
_LONGEST_KEY = 3 * _WORD


def lanes(batch: Batch) -> list[Batch]:
    """A large batch in two of about one size, partitions whole and no key in both; any other as it is.

    A key is in one partition, unless the number of partitions was changed: two transactions that change one key do not
    see each other's changes.
    """
    if sum(map(len, batch.values())) < _WORTH_LANES:
        return [batch]
    halves: tuple[dict[TopicPartitionKey, PartitionRecords], ...] = ({}, {})
    for tp, records in sorted(batch.items(), key=lambda item: -len(item[1])):
        min(halves, key=lambda half: sum(map(len, half.values())))[tp] = records
    return list(halves) if any(map(len, halves[1].values())) and not _share_a_key(*halves) else [batch]


def _share_a_key(some: Batch, others: Batch) -> bool:
    """Whether a key of a topic may be in both: certain for keys of at most 24 bytes, assumed for others."""
    for topic in {topic for topic, _ in some} & {topic for topic, _ in others}:
        left, right = _keys(some, topic), _keys(others, topic)
        if left is None or right is None or not left.join(right, on=left.columns, how="semi").is_empty():
            return True
    return False


def _keys(batch: Batch, topic: str) -> pl.DataFrame | None:
    """The different keys of a topic as three numbers, padded with zeros; None where one is null or too long."""
    frames = [pl.DataFrame(schema={str(i): pl.UInt64 for i in range(_LONGEST_KEY // _WORD)})]
    for columns in (piece for (name, _), records in batch.items() if name == topic for piece in records.pieces):
        begins, sizes = columns.table[Row.KEY_AT], columns.table[Row.KEY_SIZE]
        if sizes.min() < 0 or sizes.max() > _LONGEST_KEY:
            return None
        data = np.concatenate([columns.buffer, np.zeros(_LONGEST_KEY, np.uint8)])
        # Eight bytes from every place on, as one number.
        windows = np.ndarray((len(columns.buffer) + 2 * _WORD,), ">u8", data, strides=(1,))
        words = []
        for first in range(0, _LONGEST_KEY, _WORD):
            unused = np.clip(first + _WORD - sizes, 0, _WORD).astype(np.uint64) * np.uint64(8)
            word = windows[begins + first].astype(np.uint64)
            words.append(
                np.where(unused == 64, np.uint64(0), word >> (unused % np.uint64(64)) << (unused % np.uint64(64)))
            )
        frames.append(pl.DataFrame(dict(zip(frames[0].columns, words, strict=True))).unique())
    return pl.concat(frames)
