"""The aggregator's transactions on a real Postgres, without a broker: settings, rises, days, the last possible day."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from sqlalchemy import Engine, text

from commands.init import InitSettings, create_topics
from retail_stream.avro.decode import RecordSchema, encode, frame
from retail_stream.errors import Fenced, SettingsError
from retail_stream.kafka import clients
from retail_stream.kafka.headers import SOURCE_OFFSET, as_big_endian
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.kafka.partition_records import PartitionRecords
from retail_stream.kafka.record_batches.reference import Record
from retail_stream.settings import Connections
from retail_stream.topics import AHEAD, SCHEMAS, Result
from services.aggregator import declared, duplicates, outbox, ownership, settings, tables, warehouse
from services.aggregator.batch import CLEAN, Aggregator
from services.aggregator.ownership import OwnedPartition
from services.aggregator.watermark import Rise
from services.aggregator.windows import SECOND
from tests.harness.record_batches import columns
from tests.harness.unchanged_topics import UnchangedTopics

SALES = json.loads((SCHEMAS / "clean" / "sales.avsc").read_text())
NOW = 1_700_000_000 * SECOND
DAY = 86_400 * SECOND


def micros(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[misc,arg-type]


class Replica:
    """One aggregator's transactions, with settings and partitions of its own."""

    def __init__(self, connections: Connections, engine: Engine, **own: Any) -> None:
        config = settings.AggregatorSettings(**{**connections.model_dump(), **own})
        self.engine, writers = engine, SimpleNamespace(get=lambda _: {1: RecordSchema(SALES)})
        self.encoder = outbox.Encoder({Result.WINDOWS: 1, Result.WATERMARKS: 2}, config.rules)
        unchanged = UnchangedTopics()
        self.aggregator = Aggregator(engine, config, self.encoder, writers, writers, unchanged)  # type: ignore[arg-type]
        self.owned: Mapping[TopicPartitionKey, OwnedPartition] = {}
        with warehouse.transaction(engine) as connection:
            settings.keep(connection, config.shaping)

    def claim(self, partitions: Iterable[int], rises: Iterable[Rise] = ()) -> Mapping[int, OwnedPartition]:
        with warehouse.transaction(self.engine) as connection:
            ownership.ensure_rows(connection, CLEAN, range(4))
            owned = ownership.claim(connection, CLEAN, partitions, rises, self.encoder)
        self.owned = {(CLEAN, p): o for p, o in owned.items()}
        return owned

    def store(
        self, partition: int, *times: int, stamp: int = NOW, first_id: int | None = None, method: str = "card"
    ) -> int:
        """Sales of these event times, in one transaction; returns how many of them are duplicates."""
        start = self.owned[CLEAN, partition].next_offset
        first_id = start if first_id is None else first_id
        sales = [self._record(partition, start + i, first_id + i, time, stamp, method) for i, time in enumerate(times)]
        pieces = (columns(CLEAN, partition, sales),) if sales else ()
        records = {(CLEAN, partition): PartitionRecords(pieces, start, start + len(sales))}
        rows = self.aggregator.rows(records)
        applied = self.aggregator.store(self.owned, records, rows, frozenset())
        self.owned = applied.owned
        return applied.step.duplicates

    def _record(self, partition: int, offset: int, number: int, time: int, stamp: int, method: str) -> Record:
        sale = {
            "transaction_id": number, "store_id": partition, "event_time": time, "customer_id": 1, "product_id": 1,
            "quantity": 1, "unit_price": 1.0, "total_amount": 1.0, "payment_method": method, "discount_applied": 0.0,
            "tax_amount": 0.0,
        }  # fmt: skip
        headers = ((SOURCE_OFFSET.encode(), as_big_endian(offset)),)
        return Record(offset, stamp // 1000, b"1", frame(1, encode(SALES, sale)), headers)


def asked(engine: Engine, query: str) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_replicas_that_began_with_an_empty_warehouse_and_other_settings_do_not_mix_their_windows(
    connections: Connections, warehouse: Engine
) -> None:
    first, second = (Replica(connections, warehouse, sales_windows=w) for w in ("1m", "5m"))
    first.claim([0])
    second.claim([1])
    with pytest.raises(SettingsError, match=r"^SALES_WINDOWS='1m': the warehouse was computed with '5m'"):
        first.store(0, NOW)
    second.store(1, NOW)
    assert asked(warehouse, "SELECT window_size::text, store_id FROM sales_by_window") == [("00:05:00", 1)]


def test_the_first_claim_of_an_empty_warehouse_keeps_the_rises_of_all_partitions_and_no_other_asks_again(
    connections: Connections, warehouse: Engine
) -> None:
    one, other = Replica(connections, warehouse), Replica(connections, warehouse)
    with warehouse.connect() as connection:
        assert ownership.is_fresh(connection, CLEAN)
    one.claim([0, 1], [Rise(0, 3, NOW), Rise(2, 5, NOW + SECOND)])
    one.store(0, NOW)
    with warehouse.connect() as connection:
        assert not ownership.is_fresh(connection, CLEAN)
    assert {p: o.recorded_rises for p, o in other.claim([1, 2]).items()} == {1: (), 2: (Rise(2, 5, NOW + SECOND),)}


def test_identities_of_a_day_are_few_rows_and_a_claim_reads_only_the_newest_of_them(
    connections: Connections, warehouse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LARGE": 8, "IN_MEMORY": 8, "MOST_CHUNKS": 5}.items():
        monkeypatch.setattr(duplicates, name, value)
    replica = Replica(connections, warehouse, sales_windows="1m,1d")
    replica.claim([0])
    for i in range(60):
        replica.store(0, NOW + i)
    assert asked(warehouse, "SELECT count(*) <= 6, sum(number) FROM sale_identities") == [(True, 60)]
    (claimed,) = replica.claim([0]).values()
    assert sum(c.size for c in claimed.held if c.rows is not None) <= 8
    # The first sale again, one between that is new, and the last one again.
    assert [replica.store(0, NOW + i, first_id=i) for i in (0, 60, 59)] == [1, 0, 1]
    assert asked(warehouse, "SELECT sum(transactions) FROM sales_by_window WHERE window_size = '1 day'") == [(61,)]
    assert sum(c.size for o in replica.owned.values() for c in o.held if c.rows is not None) <= 8


def test_an_owner_that_lost_its_partition_does_not_use_identities_that_the_next_one_has_merged(
    connections: Connections, warehouse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Replica(connections, warehouse, sales_windows="1d") for _ in range(2))
    first.claim([0])
    first.store(0, NOW, NOW + 1)
    monkeypatch.setattr(duplicates, "IN_MEMORY", 0)
    first.store(0, NOW + 2, NOW + 3)
    second.claim([0])
    second.store(0, NOW + 4, NOW + 5, NOW + 6)
    assert asked(warehouse, "SELECT count(*), sum(number) FROM sale_identities") == [(1, 7)]
    with pytest.raises(Fenced):
        first.store(0, NOW, first_id=0)


@pytest.mark.parametrize("windows", ["1m", "366d"])
def test_a_sale_of_the_last_possible_day_is_stored(connections: Connections, warehouse: Engine, windows: str) -> None:
    last = micros(9999, 12, 31, 23, 59, 59)
    replica = Replica(connections, warehouse, sales_windows=windows)
    replica.claim([0])
    replica.store(0, last, stamp=last)
    replica.claim([0])
    replica.store(0, last, micros(9999, 12, 31, 23, 59, 30), stamp=last)
    assert asked(warehouse, "SELECT count(*) FROM fact_sales_9900s") == [(3,)]
    assert asked(warehouse, "SELECT sum(transactions) FROM sales_by_window") == [(3,)]


def test_a_late_sale_is_stored_with_the_windows_that_it_missed(connections: Connections, warehouse: Engine) -> None:
    replica = Replica(
        connections, warehouse, sales_windows="1m,2m/1m", watermark_delay_s=0, allowed_lateness_s=30, fact_sales="off"
    )
    replica.claim([1])
    start = NOW // (60 * SECOND) * 60 * SECOND
    stamp = start + 200 * SECOND
    #  0        60       120      180  200
    #  |--------|--------|--------|---|   At 200, a sale at 70 misses [60, 120) and [0, 120); [60, 180) is held.
    replica.store(1, start + 200 * SECOND, stamp=stamp)
    replica.store(1, start + 70 * SECOND, start + 199 * SECOND, stamp=stamp)
    found = asked(
        warehouse,
        f"""
        SELECT transaction_id, store_id, total_amount::text, source_partition, source_offset,
               extract(epoch FROM published_at)::bigint - {start // SECOND}, size::text,
               extract(epoch FROM begins)::bigint - {start // SECOND}, by::text,
               extract(epoch FROM watermark)::bigint - {start // SECOND}
        FROM late_sales, unnest(window_sizes, window_starts, late_by) AS u (size, begins, by)
        """,
    )
    sale = (1, 1, "1.00", 1, 1, 200)
    assert found == [(*sale, "00:01:00", 60, "00:00:50", 200), (*sale, "00:02:00", 0, "00:00:50", 200)]


def test_init_bounds_the_timestamps_of_raw_topics_that_are_there_and_leaves_their_other_settings(
    initialised: Connections,
) -> None:
    client, resource = clients.admin(initialised), ConfigResource(ResourceType.TOPIC, "stores.raw")
    for name, value in ((AHEAD, "9223372036854775807"), ("retention.ms", "86400000")):
        resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))
    client.incremental_alter_configs([resource])[resource].result(10)
    create_topics(InitSettings(**initialised.model_dump()))
    asked = ConfigResource(ResourceType.TOPIC, "stores.raw")
    found = client.describe_configs([asked])[asked].result(10)
    assert (found[AHEAD].value, found["retention.ms"].value) == ("300000", "86400000")
    asked.add_incremental_config(ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET))
    client.incremental_alter_configs([asked])[asked].result(10)


def test_any_text_that_postgres_stores_is_a_key_and_the_first_500_characters_of_it_count(
    connections: Connections, warehouse: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared, "FILE", tmp_path / "windows.toml")
    usual = (SCHEMAS / "windows.toml").read_text()
    declared.FILE.write_text(f"{usual}[method]\nby = 'payment_method'\nmeasures = ['taxes', 'transactions']")
    with warehouse.begin() as connection:
        tables.make(connection, declared.load())
    replica = Replica(connections, warehouse)
    replica.claim([0])
    methods = ["", "\u20ac" * 500, "\u20ac" * 2000, 'a "quoted", one', "two\nlines\r", "{a,b}", "NULL", "\\x41"]
    for method in methods * 2:
        replica.store(0, NOW, method=method)
    found = asked(warehouse, "SELECT payment_method, transactions FROM sales_by_method_window")
    assert dict(found) == {m: 2 for m in methods if len(m) < 500} | {"\u20ac" * 500: 4}
    keys = asked(warehouse, "SELECT count(*) FROM sales_by_window")
    assert keys == [(1,)]
