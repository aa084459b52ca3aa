"""The ids of topics are stored with the first claim; another id, or a position behind the end, is refused."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import TopicMadeAnew
from retail_stream.settings import Connections
from retail_stream.topics import Group
from retail_stream.warehouse import positions, topics_read
from retail_stream.warehouse.topics_read import Look, TopicsRead

CLEAN, RAW = topics.clean(Entity.STORES), topics.raw(Entity.STORES)


def test_the_ids_of_a_first_claim_are_those_of_the_brokers(connections: Connections, warehouse: Engine) -> None:
    read = TopicsRead(connections, [Entity.STORES])
    look = read.look([(CLEAN, 0)])
    assert look.ends.keys() == {(CLEAN, 0)}
    with warehouse.begin() as connection:
        read.claim(connection, look, [])
        assert topics_read.stored(connection) == look.ids
        assert look.ids.keys() == {CLEAN, RAW}
    read.require_same(repeats=True)


def test_another_id_is_refused(connections: Connections, warehouse: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    read = TopicsRead(connections, [Entity.STORES])
    look = read.look([])
    with warehouse.begin() as connection:
        read.claim(connection, Look({**look.ids, RAW: "another"}, {}), [])
    with warehouse.begin() as connection, pytest.raises(TopicMadeAnew, match=rf"^{RAW} was deleted and made again"):
        read.claim(connection, look, [])
    with pytest.raises(TopicMadeAnew, match=rf"^{RAW} was deleted and made again"):
        read.require_same(repeats=True)


def test_a_position_behind_the_end_of_its_partition_is_refused(connections: Connections, warehouse: Engine) -> None:
    read = TopicsRead(connections, [Entity.STORES])
    end = read.look([(CLEAN, 0)]).ends[CLEAN, 0]
    with warehouse.begin() as connection:
        there = replace(positions.claim(connection, Group.SCD_MERGER, CLEAN, 0), next_offset=end)
        read.claim(connection, read.look([(CLEAN, 0)]), [there])
        with pytest.raises(TopicMadeAnew, match=f"ends at offset {end:,}, and the warehouse has read it up to"):
            read.claim(connection, read.look([(CLEAN, 0)]), [replace(there, next_offset=end + 1)])
