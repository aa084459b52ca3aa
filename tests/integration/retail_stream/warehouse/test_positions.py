"""Positions are fenced: only the last worker that claimed a partition can advance its position."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from retail_stream.errors import Fenced
from retail_stream.topics import Group
from retail_stream.warehouse.positions import Position, advance, claim


def test_a_first_claim_starts_at_the_beginning(warehouse):
    with warehouse.begin() as connection:
        position = claim(connection, Group.AGGREGATOR, "sales.clean", 0)
    assert position == Position("sales.clean", 0, epoch=1, next_offset=0, source_offset=-1)


def test_a_later_claim_goes_on_where_the_last_one_stopped(warehouse):
    with warehouse.begin() as connection:
        first = claim(connection, Group.AGGREGATOR, "sales.clean", 0)
        advance(connection, Group.AGGREGATOR, [(first, replace(first, next_offset=42, source_offset=40))])
    with warehouse.begin() as connection:
        assert claim(connection, Group.AGGREGATOR, "sales.clean", 0) == Position("sales.clean", 0, 2, 42, 40)


def test_a_worker_that_lost_its_partition_is_fenced_and_its_results_roll_back(warehouse):
    with warehouse.begin() as connection:
        old = claim(connection, Group.AGGREGATOR, "sales.clean", 0)
    with warehouse.begin() as connection:
        claim(connection, Group.AGGREGATOR, "sales.clean", 0)
    with warehouse.connect() as connection:
        connection.execute(text("INSERT INTO stored_settings VALUES ('a', 'b')"))
        with pytest.raises(Fenced, match=r"sales\.clean/0"):
            advance(connection, Group.AGGREGATOR, [(old, replace(old, next_offset=7, source_offset=7))])
    with warehouse.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM stored_settings")).scalar_one() == 0


def test_a_worker_that_is_ahead_of_a_restored_warehouse_is_fenced_and_may_repeat_its_last_move(warehouse):
    with warehouse.begin() as connection:
        first = claim(connection, Group.AGGREGATOR, "sales.clean", 0)
        second = replace(first, next_offset=42, source_offset=40)
        third = replace(second, next_offset=50, source_offset=48)
        for _ in range(2):
            advance(connection, Group.AGGREGATOR, [(first, second)])
    # A backup of before the first move is restored: 0 to 42 are not in the results any more.
    with warehouse.begin() as connection:
        connection.execute(text("UPDATE consumer_positions SET next_offset = 0, source_offset = -1"))
    with warehouse.connect() as connection, pytest.raises(Fenced, match="or another position than 42"):
        advance(connection, Group.AGGREGATOR, [(second, third)])


def test_groups_do_not_share_positions(warehouse):
    with warehouse.begin() as connection:
        claim(connection, Group.AGGREGATOR, "sales.clean", 0)
        assert claim(connection, Group.SCD_MERGER, "sales.clean", 0).epoch == 1
