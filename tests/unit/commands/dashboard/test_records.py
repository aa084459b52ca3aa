"""Records and partitions for the page: bounded whatever the topics hold."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
from sqlalchemy import create_engine

from commands.dashboard import records
from commands.dashboard.records import Records
from retail_stream.settings import Connections
from retail_stream.topics import Group

ENGINE = create_engine("postgresql+psycopg://reader@127.0.0.1:9/nothing")
SERVERS = Connections(
    kafka_bootstrap_servers="127.0.0.1:9",
    schema_registry_url="http://127.0.0.1:9",
    database_url="postgresql://reader@127.0.0.1:9/nothing",
)
NONE: dict[str, Any] = {"key": None, "partition": None, "offset": None, "most": 20}


class Message:
    """A record, as a client's; ``alive`` counts those that are in memory."""

    alive: ClassVar[int] = 0

    def __init__(self, partition: int, offset: int, key: bytes = b"7", value: bytes = b"x") -> None:
        self._partition, self._offset, self._key, self._value = partition, offset, key, value
        Message.alive += 1

    def __del__(self) -> None:
        Message.alive -= 1

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000 * self._offset + self._partition

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def headers(self) -> list[tuple[str, bytes]]:
        return [("a", self._key)]


class Topic:
    """Stands for a topic of Kafka: ``length`` records in each partition, handed out a partition at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, partitions: int, length: int, **parts: bytes) -> None:
        self.parts = parts
        self.most_alive = 0
        places = [("sales.raw", p) for p in range(partitions)]
        for name, made in {
            "topic_partitions": lambda *_: places,
            "latest_offsets": lambda *_, **__: dict.fromkeys(places, length),
            "first_offsets": lambda *_: dict.fromkeys(places, 0),
            "read": self.read,
        }.items():
            monkeypatch.setattr(records, name, made)

    def read(self, _: object, ranges: dict[tuple[str, int], range], **__: Any) -> Iterator[list[Message]]:
        for (_topic, partition), offsets in ranges.items():
            yield [Message(partition, offset, **self.parts) for offset in offsets]
            self.most_alive = max(self.most_alive, Message.alive)


def page_of() -> Records:
    return Records(SERVERS, ENGINE, lambda _: None)


def test_of_500_partitions_the_newest_records_are_found_and_no_others_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic(monkeypatch, 500, 300)
    found = page_of().newest("sales.raw", **NONE)
    assert [(r["partition"], r["offset"]) for r in found["records"]] == [(499 - i, 299) for i in range(20)]
    assert topic.most_alive < 3 * 120, "two batches at most, and what is shown"
    from_there = page_of().newest("sales.raw", **{**NONE, "offset": 5})
    assert [(r["partition"], r["offset"]) for r in from_there["records"]] == [(0, 5 + i) for i in range(20)]


def test_of_very_large_records_fewer_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT_BYTES", 5000)
    Topic(monkeypatch, 3, 10, value=b"x" * 1000)
    found = page_of().newest("sales.raw", **NONE)
    assert [r["offset"] for r in found["records"]] == [9, 9, 9, 8]
    assert not found["whole"]
    Topic(monkeypatch, 1, 2, value=b"x" * 9000)
    assert [r["offset"] for r in page_of().newest("sales.raw", **NONE)["records"]] == [1], "one is always shown"


def test_long_keys_headers_and_values_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    Topic(monkeypatch, 1, 1, key="é".encode() * 100_000, value=b"v" * 100_000)
    (record,) = page_of().newest("sales.raw", **NONE)["records"]
    assert record["cut"] == {"key": 100_000, "headers": 100_009, "value": 100_000}
    assert record["key"] == "é" * 200 + "…"
    assert len(json.dumps(record, ensure_ascii=False)) < 30_000


def test_of_many_partitions_those_with_the_most_left_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "topic_partitions", lambda _, *names: [(n, p) for n in names for p in range(500)])
    monkeypatch.setattr(records, "end_offsets", lambda _, places: dict.fromkeys(places, 1000))
    monkeypatch.setattr(records, "first_offsets", lambda _, places: dict.fromkeys(places, 0))
    # The further a partition, the less is left in it; of partition 499 nothing was read yet.
    monkeypatch.setattr(
        records, "committed_offsets", lambda _, __, places: {(t, p): 500 + p for t, p in places if p < 499}
    )
    monkeypatch.setattr(records.warehouse, "session", nullcontext)
    monkeypatch.setattr(records.warehouse, "stored_positions", lambda _: {})
    found = page_of().partitions()
    assert found["total"] == 8 * 500
    of_aggregator = [r["partition"] for r in found["rows"] if r["group"] == Group.AGGREGATOR]
    assert of_aggregator == [*range(99), 499]
    assert len(found["rows"]) == 3 * 100
