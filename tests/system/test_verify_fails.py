"""`verify` can fail: each change by hand is named, and the exit code is 1."""

import io
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition
from rich.console import Console
from sqlalchemy import text

from retail_stream import kafka
from retail_stream.verify.command import verify

from .conftest import Running


@pytest.fixture(scope="module")
def drained(running: Running) -> Iterator[Running]:
    """A pipeline with dead letters, drained, its services stopped."""
    running.eventually(lambda s: s.rejected > 0 and s.facts > 1_000, "dead letters and facts arrive")
    running.drain()
    for service in list(running.pipeline.processes):
        assert running.pipeline.stop(service) == 0
    assert said(running)[0] == 0
    return running


def said(running: Running) -> tuple[int, str]:
    """Exit code and failed lines of `verify`."""
    out = io.StringIO()
    code = verify(running.connections, Console(file=out, width=200))
    return code, "\n".join(line for line in out.getvalue().splitlines() if not line.startswith("✓"))


def change(running: Running, *statements: str) -> None:
    with running.warehouse.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_one_cent_in_one_window_is_named(drained: Running):
    place = "ctid = (SELECT min(ctid) FROM sales_by_window)"
    change(drained, f"UPDATE sales_by_window SET taxes = taxes + 0.01 WHERE {place}")
    code, lines = said(drained)
    assert code == 1
    assert "sales_by_window" in lines
    assert "taxes" in lines


def test_one_missing_version_is_named(drained: Running):
    change(drained, "DELETE FROM dim_products WHERE product_sk = (SELECT max(product_sk) FROM dim_products)")
    code, lines = said(drained)
    assert code == 1
    assert "dim_products" in lines


def test_one_missing_dead_letter_is_named(drained: Running):
    admin = kafka.admin(drained.connections)
    ends = kafka.end_offsets(drained.connections, [("sales.dlq", p) for p in range(4)])
    partition = next(p for (_, p), end in ends.items() if end > 0)
    place = TopicPartition("sales.dlq", partition, 1)
    admin.delete_records([place])[TopicPartition("sales.dlq", partition)].result()
    code, lines = said(drained)
    assert code == 1
    assert "sales" in lines
