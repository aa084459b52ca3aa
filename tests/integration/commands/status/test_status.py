"""`status` reads positions from Postgres. Offsets that groups commit to Kafka do not count."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

import pytest
from confluent_kafka import KafkaException, TopicPartition
from sqlalchemy import Engine, event, text

from commands.status import counts
from commands.status.status import as_json, look
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.kafka import clients
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.settings import SERVERS, Connections
from retail_stream.topics import Group
from retail_stream.warehouse import positions
from tests.harness.eventually import eventually

TOPICS = [topics.clean(entity) for entity in DIMENSIONS]


def commit(connections: Connections, group: Group, ends: Mapping[TopicPartitionKey, int]) -> None:
    consumer = clients.consumer(connections, group)
    offsets = [TopicPartition(*place, end) for place, end in ends.items()]
    # The group's coordinator may not answer yet.
    eventually(
        lambda: consumer.commit(offsets=offsets, asynchronous=False), "offsets are committed", retry_on=KafkaException
    )
    consumer.close()


def test_an_empty_warehouse_is_behind_whatever_the_hints_of_another_one_say(
    connections: Connections, warehouse: Engine
) -> None:
    sink = clients.producer(connections)
    for topic in TOPICS:
        sink.produce(topic, None, "1", 0)
    assert sink.flush(10) == 0
    ends = end_offsets(connections, [(topic, p) for topic in TOPICS for p in range(4)])
    commit(connections, Group.SCD_MERGER, ends)

    status = look(warehouse, connections)
    assert status.lag[Group.SCD_MERGER] >= len(TOPICS)
    assert not status.drained

    with warehouse.begin() as connection:
        for place, end in ends.items():
            own = positions.claim(connection, Group.SCD_MERGER, *place)
            there = positions.Position(own.topic, own.partition, own.epoch, end, -1)
            positions.advance(connection, Group.SCD_MERGER, [(own, there)])
    assert look(warehouse, connections).lag[Group.SCD_MERGER] == 0


def test_large_tables_are_estimated_and_not_read(
    connections: Connections, warehouse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.begin() as connection:
        connection.execute(
            text("""
            SELECT make_fact_partition(day) FROM unnest(ARRAY['1970-01-01', '2026-11-01', '2026-12-01']::date[]) day;
            INSERT INTO fact_sales
            SELECT n, 1, timestamptz '2026-11-15' + n * interval '1 minute', 1, 1, 1, 1, 1, '', 0, 0
            FROM generate_series(1, 50_000) n;
            INSERT INTO sales_by_window (window_size, window_start, window_end, store_id, transactions, units_sold,
                units_returned, gross_sales, returns_amount, discounts, taxes, revision, state, updated_at)
            SELECT '1 minute', to_timestamp(60 * n), to_timestamp(60 * n + 60), 1, 1, 1, 0, 1, 0, 0, 0, 0,
                   CASE WHEN n <= 3 THEN 'open' WHEN n <= 5 THEN 'fired' ELSE 'final' END, now()
            FROM generate_series(1, 20_000) n
        """)
        )

    asked: list[str] = []
    event.listen(warehouse, "before_cursor_execute", lambda *call: asked.append(call[2]))

    def counted() -> set[str]:
        return {table for query in asked for table in re.findall(r"count\(\*\) FROM (\w+)(?! WHERE|\w)", query)}

    exact = look(warehouse, connections)
    assert (exact.facts, exact.windows, exact.estimated) == (
        50_000, {"open": 3, "fired": 2, "final": 19_995}, frozenset(),
    )  # fmt: skip
    assert {"fact_sales", "sales_by_window"} < counted()
    monkeypatch.setattr(counts, "SMALL_BYTES", 2**20)
    # Before the tables were ever analysed, an estimate knows the pages only.
    guessed = look(warehouse, connections)
    assert guessed.estimated == {"facts", "windows"}
    assert 20_000 < guessed.facts < 120_000
    with warehouse.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    asked.clear()
    near = look(warehouse, connections)
    assert counted() == {"dim_customers", "dim_products", "dim_stores", "outbox"}
    assert 49_000 < near.facts < 51_000
    assert (near.windows["open"], near.windows["fired"]) == (3, 2)
    assert 19_500 < near.windows["final"] < 20_500
    assert as_json(near, near)["estimated"] == ["facts", "windows"]


PROGRAM = [sys.executable, "-m", "commands.cli", "status"]


def variables(connections: Connections) -> dict[str, str]:
    servers = {name.upper(): str(getattr(connections, name)) for name in SERVERS}
    # A terminal's size, for all that is drawn; colours are not asked for.
    return {**os.environ, **servers, "COLUMNS": "100", "LINES": "40", "TERM": "xterm"}


def test_in_a_pipe_it_is_one_plain_table(connections: Connections) -> None:
    done = subprocess.run([*PROGRAM], env=variables(connections), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lag aggregator" in done.stdout
    assert done.stdout.count("watermark") == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.stdout)


def test_for_programs_it_is_one_object_on_one_line(connections: Connections, warehouse: Engine) -> None:
    command = [*PROGRAM, "--json", "--every", "0.1"]
    done = subprocess.run(command, env=variables(connections), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    told, there = json.loads(done.stdout), look(warehouse, connections)
    assert told["lag"] == {str(group): lag for group, lag in there.lag.items()}
    assert told["counts"]["produced"] == there.produced
    assert told["drained"] == there.drained
    assert (told["watermark"], told["outbox"], told["windows"]) == (None, 0, {"open": 0, "fired": 0, "final": 0})


def test_in_a_terminal_it_is_drawn_again_until_ctrl_c(connections: Connections) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "--every", "0.1"], env=variables(connections), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    drawn, deadline = "", time.monotonic() + 60
    try:
        # Three times, each over the one before.
        while len(re.findall(r"lag aggregator", drawn)) < 3:
            assert time.monotonic() < deadline, drawn
            drawn += os.read(ours, 65_536).decode(errors="replace")
        assert "\x1b[1A" in drawn
        process.send_signal(signal.SIGINT)
        with suppress(OSError):
            while more := os.read(ours, 65_536):
                drawn += more.decode(errors="replace")
        assert process.wait(30) == 0
        assert "Traceback" not in drawn
        # The cursor is there again.
        assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_lag_counts_records_and_not_the_markers_of_their_transactions(
    connections: Connections, warehouse: Engine
) -> None:
    topic = topics.raw(Entity.STORES)
    places = topic_partitions(connections, *map(topics.raw, Entity))
    ends = end_offsets(connections, places)
    commit(connections, Group.CLEANER, ends)
    own = {"transactional.id": "test-status-lag", "message.timeout.ms": 30_000, "transaction.timeout.ms": 30_000}
    source = clients.producer(connections, **own)
    source.init_transactions(30)
    for _ in range(30):
        source.begin_transaction()
        source.produce(topic, b"any", b"1", 0)
        source.commit_transaction(30)
    eventually(lambda: end_offsets(connections, places)[topic, 0] == ends[topic, 0] + 60, "every marker is there")
    assert look(warehouse, connections).lag[Group.CLEANER] == 30


def test_an_open_transaction_is_lag_and_an_aborted_one_is_none(connections: Connections, warehouse: Engine) -> None:
    topic = topics.raw(Entity.STORES)
    places = topic_partitions(connections, *map(topics.raw, Entity))
    ends = end_offsets(connections, places)
    commit(connections, Group.CLEANER, ends)
    own = {"transactional.id": "test-status", "message.timeout.ms": 30_000, "transaction.timeout.ms": 30_000}
    source = clients.producer(connections, **own)
    source.init_transactions(30)

    source.begin_transaction()
    for _ in range(2):
        source.produce(topic, b"any", b"1", 0)
    assert source.flush(30) == 0
    assert look(warehouse, connections).lag[Group.CLEANER] > 0
    source.abort_transaction(30)
    # Markers come a moment after a transaction's end.
    eventually(lambda: look(warehouse, connections).lag[Group.CLEANER] == 0, "an aborted transaction is no lag", 30)
