"""Dead letters as the page keeps them: bounded whatever stands on the topics, and read anew with a topic."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from commands.dashboard import topics_tail
from commands.dashboard.topics_tail import MOST_RULES, OTHERS, Late, Letters, Tail
from retail_stream.avro.registry import Registry
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.settings import Connections

SERVERS = Connections(
    kafka_bootstrap_servers="127.0.0.1:9",
    schema_registry_url="http://127.0.0.1:9",
    database_url="postgresql://reader@127.0.0.1:9/nothing",
)


class Log:
    """Stands for one partition of a topic in Kafka."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
        self.topic = topic
        self.records: list[Any] = []
        monkeypatch.setattr(topics_tail, "topic_partitions", lambda *_: [(topic, 0)])
        monkeypatch.setattr(topics_tail, "latest_offsets", lambda *_, **__: {(topic, 0): len(self.records)})
        monkeypatch.setattr(topics_tail, "read", self.read)
        monkeypatch.setattr(topics_tail, "by_partition", lambda batch: ({(topic, 0): batch}, {}))

    def read(self, _: object, ranges: dict[tuple[str, int], range], **__: Any) -> Iterator[list[Any]]:
        for offsets in ranges.values():
            yield [self.records[offset] for offset in offsets]

    def add(self, *rules: str, value: bytes = b"", message: bytes = b"") -> None:
        offset = len(self.records)
        headers = [("rules", ",".join(rules).encode()), ("__connect.errors.exception.message", message)]
        answers = {
            "topic": self.topic, "partition": 0, "offset": offset, "timestamp": (1, offset), "key": b"1",
            "value": value, "headers": headers, "error": None,
        }  # fmt: skip
        self.records.append(SimpleNamespace(**{name: lambda answer=answer: answer for name, answer in answers.items()}))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(topics_tail.show, "raw_schemas", lambda *_: {})
    return Log(monkeypatch, "sales.dlq")


def test_rules_that_others_write_into_dead_letters_are_bounded(log: Log) -> None:
    letters = Letters(SERVERS, Registry("http://127.0.0.1:9"))
    for i in range(10_000):
        log.add(f"rule {i} {'x' * 5000}")
    letters.update()
    assert letters.total == 10_000
    assert len(letters.counts) == MOST_RULES + 1
    assert letters.counts["sales", OTHERS] == 10_000 - MOST_RULES
    assert max(len(rule) for _, rule in letters.counts) == 100
    assert len(letters.newest(None, None, 200)) == 200


def test_a_dead_letter_with_long_parts_is_cut(log: Log) -> None:
    letters = Letters(SERVERS, Registry("http://127.0.0.1:9"))
    log.add(*(f"r{i}" + "y" * 500 for i in range(999)), value=b"\xff" * 100_000, message="é".encode() * 100_000)
    letters.update()
    (row,) = letters.newest(None, None, 20)
    assert row["message"] == "é" * 1000 + "…"
    assert (len(row["rules"]), len(row["rules"][0])) == (MOST_RULES, 100)
    assert row["value_bytes"] == 100_000
    assert len(row["value_hex"]) == 2 * topics_tail.SHOWN_BYTES


def test_without_the_registry_dead_letters_are_shown_as_bytes_or_by_the_schemas_known_before(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def away(*_: object) -> None:
        asked.append("away")
        raise Unavailable("The registry answers with HTTP 500.")

    def there(*_: object) -> dict[int, str]:
        return {1: "schema"}

    letters = Letters(SERVERS, Registry("http://127.0.0.1:9"))
    log.add("valid_avro")
    log.add("valid_avro")
    letters.update()
    monkeypatch.setattr(topics_tail.show, "_decoded", lambda _, known: {"n": 1} if known else None)
    monkeypatch.setattr(topics_tail.show, "raw_schemas", away)
    assert [(x["value"], x["undecoded"]) for x in letters.newest(None, None, 20)] == [
        (None, "The registry answers with HTTP 500.")
    ] * 2
    assert asked == ["away"], "it is not asked for each letter"
    monkeypatch.setattr(topics_tail, "_AWAY_S", -1.0)
    monkeypatch.setattr(topics_tail, "_KNOWN_S", -1.0)
    monkeypatch.setattr(topics_tail.show, "raw_schemas", there)
    assert [(x["value"], x["undecoded"]) for x in letters.newest(None, None, 20)] == [({"n": 1}, None)] * 2
    monkeypatch.setattr(topics_tail.show, "raw_schemas", away)
    assert [x["value"] for x in letters.newest(None, None, 20)] == [{"n": 1}] * 2


def test_a_topic_that_is_made_again_is_read_from_its_beginning(log: Log) -> None:
    letters, late = Letters(SERVERS, Registry("http://127.0.0.1:9")), Late(SERVERS)
    for _ in range(5):
        log.add("valid_avro")
    for tail in (letters, late):
        tail.update()
        assert tail.total == 5
    log.records.clear()
    for tail in (letters, late):
        tail.update()
        assert tail.total == 0
    assert letters.newest(None, None, 20) == []
    for _ in range(2):
        log.add("time_not_future")
    for tail in (letters, late):
        tail.update()
        assert tail.total == 2
    assert letters.counts == {("sales", "time_not_future"): 2}
    assert [row["rules"] for row in letters.newest(Entity.SALES, None, 20)] == [["time_not_future"]] * 2


def test_what_is_skipped_belongs_to_the_topic_that_it_was_skipped_on(log: Log) -> None:
    tail = Tail(SERVERS, ["sales.dlq"], backlog=3)
    for _ in range(10):
        log.add("valid_avro")
    assert [len(some) for some in tail.news()] == [3]
    assert tail.skipped == 7
    del log.records[4:]
    assert [len(some) for some in tail.news()] == [3]
    assert (tail.skipped, tail.begun) == (1, 1)
