"""Of the records of a partition with the same ``replay.of``, the first counts; see `retail-stream dlq replay`.

A table in Postgres holds those seen, written in the transaction of the results. Only batches with a replay query it.
"""

import hashlib

import polars as pl
from sqlalchemy import Connection, text

from retail_stream.kafka.batches import REPLAY_OF
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.topics import Group

# What fits into an index. Ours are a topic, a partition and an offset; other producers may write longer ones.
_LONGEST = 512

_SEEN = text("""
    INSERT INTO replays (consumer_group, topic, partition, replay_of)
    SELECT :group, :topic, :partition, unnest(CAST(:names AS bytea[]))
    ON CONFLICT DO NOTHING
    RETURNING replay_of
""")


def without_second(connection: Connection, group: Group, tp: TopicPartitionKey, rows: pl.DataFrame) -> pl.DataFrame:
    """Drop the rows whose ``replay_of`` an earlier record of the partition had, and store those of the others.

    ``rows``: of the partition ``tp``, in order, with the column ``replay_of`` (bytes; null: not a replay).
    """
    if REPLAY_OF not in rows.columns or rows[REPLAY_OF].null_count() == rows.height:
        return rows
    names = {value: _name(value) for value in rows[REPLAY_OF].drop_nulls().unique()}
    stored = sorted(set(names.values()))
    parameters = {"group": group.value, "topic": tp[0], "partition": tp[1], "names": stored}
    new = {bytes(row.replay_of) for row in connection.execute(_SEEN, parameters)}
    fresh = pl.Series([value for value, name in names.items() if name in new], dtype=pl.Binary)
    replay = pl.col(REPLAY_OF)
    return rows.filter(replay.is_null() | (replay.is_in(fresh.implode()) & replay.is_first_distinct()))


def _name(value: bytes) -> bytes:
    return value if len(value) <= _LONGEST else hashlib.sha256(value).digest()
