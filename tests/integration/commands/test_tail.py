"""`retail-stream tail` on a real broker and registry: Avro, dead letters, any bytes, a topic that is not there."""

import json

import pytest

from commands import tail
from retail_stream.avro.decode import encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.errors import SettingsError, Unavailable
from retail_stream.kafka import clients
from retail_stream.kafka.headers import as_big_endian
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import SCHEMAS
from tests.harness.eventually import eventually

STORE = {
    "store_id": 7,
    "name": "Zürich 東京",
    "address": "Bahnhofstrasse 1",
    "manager": None,
    "open_date": 0,
    "status": "open",
    "phone_number": "1",
    "last_update_time": 1_764_000_000_123_456,
}


def lines(connections: Connections, topic: str, wanted: int) -> list[dict]:
    schemas = tail.registered(connections)
    return list(map(json.loads, tail.tail(connections, topic, schemas, from_beginning=True, wanted=wanted)))


def test_records_of_every_kind_are_one_line_each(connections: Connections) -> None:
    schema = json.loads((SCHEMAS / "raw" / "stores.avsc").read_text())
    number = Registry(connections.schema_registry_url).register("stores.raw-value", schema)
    good = frame(number, encode(schema, STORE))
    values = [good, None, b"no avro", frame(2**31 - 1, b"x"), frame(2**32 - 1, b"x"), good[:-3], good + b"y"]
    producer = clients.producer(connections)
    places = topic_partitions(connections, "stores.dlq")
    # The leader of a topic that was just created may not know yet that it leads.
    ends = eventually(lambda: end_offsets(connections, places), "every partition has a leader", retry_on=Unavailable)
    before = sum(ends.values())
    headers = [("source.offset", as_big_endian(41)), ("rules", b"valid_avro"), ("nothing", None)]
    for i, value in enumerate(values):
        producer.produce("stores.dlq", key=b"7", value=value, partition=1, timestamp=1000 + i, headers=headers)
    producer.flush(10)

    shown = lines(connections, "stores.dlq", before + len(values))
    mine = [r for r in shown if r["partition"] == 1][-len(values) :]

    assert mine[0]["value"]["name"] == STORE["name"]
    assert mine[0]["value"]["manager"] is None
    assert mine[0]["value"]["last_update_time"] == "2025-11-24T16:00:00.123456Z"
    assert (mine[0]["key"], mine[0]["timestamp"]) == ("7", "1970-01-01T00:00:01Z")
    assert mine[0]["headers"] == {"source.offset": 41, "rules": "valid_avro", "nothing": None}
    assert [r["value"] for r in mine[1:3]] == [None, "no avro"]
    assert all(set(r["value"]) == {"base64"} for r in mine[3:]), mine[3:]


def test_a_topic_that_is_not_there_is_named_with_those_that_are(connections: Connections) -> None:
    with pytest.raises(SettingsError, match=r"no topic 'sales.cleaned'; it has: .*sales\.clean,"):
        lines(connections, "sales.cleaned", 1)
