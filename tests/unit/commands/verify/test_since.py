"""The times that `verify --since` takes, and what it leaves out."""

from datetime import UTC, datetime

import pytest

from commands.audit.engine import Engine, connect
from commands.verify.recent_load import drop_older, move_cuts
from commands.verify.since import Cut, parse
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW_MS = 1_772_366_400_000


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        ("2026-03-01T12:00:00Z", NOW_MS),
        ("2026-03-01T11:59:59.999", NOW_MS - 1),
        ("2026-03-01T13:00:00+01:00", NOW_MS),
        ("2026-03-01", NOW_MS - 12 * 3_600_000),
        ("90s", NOW_MS - 90_000),
        (" 2h ", NOW_MS - 7_200_000),
        ("1d", NOW_MS - 86_400_000),
        ("99999999999999d", 0),
        ("0001-01-01T00:00:00+14:00", 0),
    ],
)
def test_a_time_or_how_long_ago(given, ms):
    assert parse(given, NOW) == ms


@pytest.mark.parametrize("given", ["tomorrow", "", "1", "5 minutes", "-1h", "2026-13-01", "1.5h"])
def test_anything_else_is_refused_in_one_sentence(given):
    with pytest.raises(SettingsError, match="is not a valid time; use ISO 8601") as refused:
        parse(given, NOW)
    assert repr(given) in str(refused.value)


def test_a_time_to_come_is_refused():
    with pytest.raises(SettingsError, match=r"--since='2026-03-01T12:00:01Z' is in the future"):
        parse("2026-03-01T12:00:01Z", NOW)


def test_windows_and_versions_are_compared_from_five_minutes_on():
    assert Cut(NOW_MS, {}, {}, {}).complete_us == (NOW_MS + 300_000) * 1000


@pytest.fixture
def engine(tmp_path) -> Engine:
    engine = connect(tmp_path)
    engine.execute(
        "CREATE TABLE cuts AS FROM (VALUES ('stores.raw', 0, 10), ('stores.raw', 1, 20)) t(topic, partition, cut)"
    )
    engine.execute(
        "CREATE TABLE found AS FROM (VALUES ('stores.clean', 0, 7), ('stores.dlq', 0, 7)) t(topic, partition, found)"
    )
    return engine


def test_what_belongs_to_raw_records_before_the_cut_is_dropped(engine):
    engine.execute("""
        CREATE TABLE clean_stores AS FROM (VALUES
            (0, 5, 9), (0, 6, 10), (0, 8, 9), (0, 6, NULL), (0, 7, NULL)) t(partition, "offset", source_offset)
    """)
    engine.execute("""
        CREATE TABLE dead_stores AS FROM (VALUES
            (0, 1, 'stores.raw', 1, 19), (0, 2, 'stores.raw', 1, 20), (0, 3, 'sales.raw', 1, 20),
            (0, 9, NULL, NULL, NULL)
        ) t(partition, "offset", source_topic, source_partition, source_offset)
    """)
    drop_older(engine, Entity.STORES)
    rows = engine.execute('SELECT "offset", source_offset FROM clean_stores ORDER BY ALL').fetchall()
    assert rows == [(6, 10), (7, None)]
    assert engine.execute('SELECT "offset" FROM dead_stores ORDER BY 1').fetchall() == [(2,), (9,)]


def test_a_cut_among_aborted_records_moves_to_the_first_record_that_is_not_older(engine):
    engine.execute("""
        CREATE TABLE raw_stores AS FROM (VALUES
            (0, 14, 1000), (0, 15, 5000), (0, 16, 4000), (1, 23, 4999), (1, 24, 4000)) t(partition, "offset", ts)
    """)
    move_cuts(engine, Entity.STORES, 5)
    assert engine.execute("SELECT partition, cut FROM cuts ORDER BY 1").fetchall() == [(0, 15), (1, 25)]
    assert engine.execute('SELECT partition, "offset" FROM raw_stores ORDER BY ALL').fetchall() == [(0, 15), (0, 16)]


def test_the_cut_of_a_partition_without_records_stays(engine):
    engine.execute('CREATE TABLE raw_stores (partition BIGINT, "offset" BIGINT, ts BIGINT)')
    move_cuts(engine, Entity.STORES, 5)
    assert engine.execute("SELECT cut FROM cuts ORDER BY 1").fetchall() == [(10,), (20,)]
