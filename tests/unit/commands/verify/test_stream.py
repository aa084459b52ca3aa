"""The watermark of the stream as `verify` judges it, in seconds; the clock is at 1,000,000 unless said."""

from collections.abc import Sequence

import pytest

from commands.audit.engine import Engine, connect
from commands.verify import watermarks

S = 1_000_000
NOW = 1_000_000
HOUR = 3600
#: (watermark, idle, leased) of each partition
Mark = tuple[float | None, bool, bool]
AWAKE, IDLE, LAPSED = (False, False), (True, True), (True, False)


@pytest.fixture
def engine(tmp_path) -> Engine:
    engine = connect(tmp_path)
    engine.execute("""
        CREATE TABLE partition_watermarks (partition BIGINT, watermark BIGINT, idle BOOLEAN, leased BOOLEAN);
        CREATE TABLE stream_watermark (watermark BIGINT, now BIGINT);
        CREATE TABLE positions (consumer_group VARCHAR, topic VARCHAR, partition BIGINT, next_offset BIGINT,
                                source_offset BIGINT, updated_at BIGINT);
        CREATE TABLE clean_sales (partition BIGINT, "offset" BIGINT);
        CREATE TABLE rises (partition BIGINT, "offset" BIGINT, warehouse VARCHAR, next_offset BIGINT,
                            watermark BIGINT, waiting BOOLEAN);
        CREATE TABLE published (topic VARCHAR, partition BIGINT, end_offset BIGINT);
        CREATE TABLE warehouse_id (id VARCHAR);
        INSERT INTO warehouse_id VALUES ('mine');
        INSERT INTO published VALUES ('sales.watermarks', 0, 10);
    """)
    return engine


def us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * S)


def said(engine: Engine, marks: Sequence[Mark], stream: float | None, last_sale: float = NOW - 60) -> tuple[str, ...]:
    """What is wrong, when the position of partition 0 is behind a sale that was taken at ``last_sale``."""
    for p, (mark, idle, leased) in enumerate(marks):
        engine.execute("INSERT INTO partition_watermarks VALUES (?, ?, ?, ?)", [p, us(mark), idle, leased])
    engine.execute("INSERT INTO stream_watermark VALUES (?, ?)", [us(stream), us(NOW)])
    engine.execute("INSERT INTO clean_sales VALUES (0, 4)")
    engine.execute("INSERT INTO positions VALUES ('aggregator', 'sales.clean', 0, 5, 4, ?)", [us(last_sale)])
    found = watermarks.stream_check(engine)
    assert found.ok == (not found.examples)
    return found.examples


@pytest.mark.parametrize(
    ("marks", "stream"),
    [
        ([(100, *AWAKE), (200, *AWAKE)], 100),
        ([(100, *IDLE), (200, *AWAKE)], 200),
        # A lease ran out after the last step: the partition may hold the stream back by now, and may not.
        ([(50, *LAPSED), (200, *AWAKE)], 50),
        ([(50, *LAPSED), (200, *AWAKE)], 200),
        ([(None, *AWAKE), (200, *AWAKE)], None),
        ([(100, *IDLE), (200, *IDLE)], 200),
        ([(100, *IDLE), (200, *IDLE)], 260),
        ([(None, *IDLE), (200, *IDLE)], 230),
        ([(None, *AWAKE), (None, *IDLE)], None),
    ],
)
def test_what_partitions_that_are_idle_or_not_allow(engine: Engine, marks: Sequence[Mark], stream: float) -> None:
    assert said(engine, marks, stream) == ()


def test_a_partition_that_is_not_idle_is_not_behind_the_stream(engine: Engine) -> None:
    (why,) = said(engine, [(100, *AWAKE), (200, *AWAKE)], 150)
    assert why.startswith("partition 0 is not idle, and is behind the stream: watermark 1970-01-01 00:01:40")


@pytest.mark.parametrize("slow", [(1 * HOUR, *IDLE), (50 * HOUR, *AWAKE)])
def test_a_stream_that_is_stuck_behind_all_partitions_that_hold_it_back_is_found(engine: Engine, slow: Mark) -> None:
    (why,) = said(engine, [slow, (100 * HOUR, *AWAKE)], 1 * HOUR)
    assert why.startswith("the stream is behind all partitions that hold it back: the slowest 1970-01-0")


def test_a_stream_without_a_watermark_where_all_partitions_have_one_is_found(engine: Engine) -> None:
    (why,) = said(engine, [(100, *AWAKE), (None, *IDLE)], None)
    assert why.endswith("stream none")


def test_an_idle_stream_that_is_behind_one_of_its_partitions_is_found(engine: Engine) -> None:
    (why,) = said(engine, [(100, *IDLE), (200, *IDLE)], 150)
    assert why.startswith("all partitions are idle, and the stream is behind one")


def test_an_idle_stream_that_went_on_faster_than_time_is_found(engine: Engine) -> None:
    (why,) = said(engine, [(100, *IDLE), (200, *IDLE)], 200 + 60 + 11, last_sale=NOW - 60)
    assert why.startswith("the stream is ahead of every partition by more than the time since the last sale")


def test_how_long_a_stream_may_have_gone_on_is_not_known_of_a_position_behind_a_marker(engine: Engine) -> None:
    engine.execute("INSERT INTO positions VALUES ('aggregator', 'sales.clean', 1, 9, 4, ?)", [us(NOW - 1)])
    engine.execute("INSERT INTO clean_sales VALUES (1, 4)")
    assert said(engine, [(100, *IDLE), (200, *IDLE)], 250) == ()


@pytest.mark.parametrize(
    ("rise", "ok"),
    [
        ("0, 3, 'mine', 7, 100000000, false", True),
        ("0, 3, 'mine', 7, 100000001, false", False),
        ("0, NULL, 'mine', 7, 100000001, true", False),
        ("0, 10, 'mine', 7, 100000001, false", True),  # recorded after the snapshot
        ("0, 3, 'another', 7, 100000001, false", True),
        ("0, 3, NULL, 7, 100000001, false", True),
    ],
)
def test_a_rise_of_this_warehouse_is_never_ahead_of_the_stream(engine: Engine, rise: str, ok: bool) -> None:
    engine.execute(f"INSERT INTO rises VALUES ({rise})")
    wrong = said(engine, [(100, *AWAKE)], 100)
    assert (wrong == ()) == ok, wrong
