"""Which replays a consumer has seen is remembered with its results."""

import polars as pl
import pytest
from sqlalchemy import Engine

from retail_stream.kafka.batches import OFFSET, REPLAY_OF
from retail_stream.topics import Group
from retail_stream.warehouse.replays import without_second

PLACE = ("sales.clean", 0)


def rows(*names: bytes | None) -> pl.DataFrame:
    return pl.DataFrame({OFFSET: range(len(names)), REPLAY_OF: names}, schema={OFFSET: pl.Int64, REPLAY_OF: pl.Binary})


def kept(engine: Engine, frame: pl.DataFrame, group: Group = Group.AGGREGATOR, place=PLACE) -> list[int]:
    with engine.begin() as connection:
        return without_second(connection, group, place, frame)[OFFSET].to_list()


def test_the_first_of_each_name_counts_and_records_that_are_no_replays_always_do(warehouse: Engine):
    assert kept(warehouse, rows(None, b"a", None, b"a", b"b", None)) == [0, 1, 2, 4, 5]
    assert kept(warehouse, rows(b"b", None, b"c", b"a", b"c")) == [1, 2]


def test_a_batch_without_replays_is_left_alone(warehouse: Engine):
    frame = rows(None, None)
    with warehouse.begin() as connection:
        assert without_second(connection, Group.AGGREGATOR, PLACE, frame) is frame


def test_groups_and_partitions_do_not_share_what_they_saw(warehouse: Engine):
    assert kept(warehouse, rows(b"a")) == [0]
    assert kept(warehouse, rows(b"a"), Group.SCD_MERGER) == [0]
    assert kept(warehouse, rows(b"a"), place=("sales.clean", 1)) == [0]
    assert kept(warehouse, rows(b"a")) == []


def test_what_was_rolled_back_was_not_seen(warehouse: Engine):
    with warehouse.connect() as connection:
        without_second(connection, Group.AGGREGATOR, PLACE, rows(b"a"))
        connection.rollback()
    assert kept(warehouse, rows(b"a")) == [0]


@pytest.mark.parametrize("name", [b"", b"\x00\xff", b"x" * 1_000_000])
def test_any_bytes_can_be_a_name(warehouse: Engine, name: bytes):
    assert kept(warehouse, rows(name, name + b"y", name)) == [0, 1]
    assert kept(warehouse, rows(name)) == []
