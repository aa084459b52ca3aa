"""A record is one line of JSON, whatever is in it: numbers and times that JSON or a calendar does not know, headers."""

import json
from typing import Any

import pytest

from commands.tail import line
from retail_stream.avro.decode import encode, frame

TIME = {"type": "long", "logicalType": "timestamp-micros"}
SCHEMA = {
    "type": "record",
    "name": "Anything",
    "fields": [
        {"name": "amount", "type": "double"},
        {"name": "at", "type": TIME},
        {"name": "many", "type": {"type": "array", "items": ["null", "double", TIME, "bytes"]}},
    ],
}
PLAIN = {
    **SCHEMA,
    "fields": [
        {"name": "amount", "type": "double"},
        {"name": "at", "type": "long"},
        {"name": "many", "type": {"type": "array", "items": ["null", "double", "long", "bytes"]}},
    ],
}


class Record:
    """As confluent-kafka's Message."""

    def __init__(self, value: bytes, headers: list[tuple[str, bytes | None]] | None = None, stamp: int = 0) -> None:
        self._value, self._headers, self._stamp = value, headers, stamp

    def timestamp(self) -> tuple[int, int]:
        return 1, self._stamp

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def key(self) -> bytes:
        return b"1"

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._headers

    def value(self) -> bytes:
        return self._value


def shown(record: Record) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line(record, lambda _: SCHEMA), parse_constant=refuse)  # type: ignore[arg-type]


def value(**fields: Any) -> dict[str, Any]:
    record = {"amount": 1.5, "at": 0, "many": [], **fields}
    return shown(Record(frame(1, encode(PLAIN, record))))["value"]


def test_numbers_that_json_does_not_know_are_strings():
    assert value(amount=float("nan"))["amount"] == "NaN"
    assert value(amount=float("-inf"))["amount"] == "-Infinity"
    assert value(many=[float("inf"), 2.5, None]) == {
        "amount": 1.5,
        "at": "1970-01-01T00:00:00Z",
        "many": ["Infinity", 2.5, None],
    }


@pytest.mark.parametrize("micros", [2**62, -(2**62), 253_402_300_800_000_000])
def test_times_that_no_calendar_knows_are_the_numbers_that_they_are(micros: int):
    assert value(at=micros)["at"] == micros


@pytest.mark.parametrize("stamp", [2**62, -(2**62)])
def test_so_are_the_times_of_records(stamp: int):
    assert shown(Record(b"x", stamp=stamp))["timestamp"] == stamp


def test_bytes_in_a_record_are_shown_as_those_of_a_header_are():
    assert value(many=[b"text", b"\xff"])["many"] == ["text", {"base64": "/w=="}]


def test_a_header_that_is_there_several_times_keeps_all_its_values():
    found = shown(Record(b"x", [("a", b"1"), ("b", b"2"), ("a", None), ("a", b"1")]))["headers"]
    assert found == {"a": ["1", None, "1"], "b": "2"}
