"""A score of small topics and warehouses: for each thing that should happen, one where it did and some where not."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fastavro
import pytest
from rich.console import Console

from retail_stream import topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.score.command import show
from retail_stream.score.judge import FaultScore, Score, judge
from retail_stream.score.tables import layout, planted_tables, tables
from retail_stream.score.warehouse import window_sizes
from retail_stream.topics import SCHEMAS, Result
from retail_stream.verify import engine as duck
from retail_stream.verify.avro import Decoder, load, without_logical_types
from retail_stream.verify.layouts import Holds, named
from retail_stream.verify.versions import attributes
from retail_stream.wire import frame

CUSTOMER = {
    "customer_id": 7, "name": "Ada", "email": "ada@example.com", "address": "1 Road", "join_date": 0,
    "loyalty_points": 10, "phone_number": "1", "age": 30, "gender": "female", "last_update_time": 100,
}  # fmt: skip
SALE = {
    "transaction_id": 7, "store_id": 3, "event_time": 30_000_000, "customer_id": 1, "product_id": 1, "quantity": 1,
    "unit_price": 5.0, "total_amount": 5.0, "payment_method": "cash", "discount_applied": 0.0, "tax_amount": 0.0,
}  # fmt: skip
RECORDS = {Entity.SALES: SALE, Entity.CUSTOMERS: CUSTOMER}
MINUTE = 60_000_000


class Message:
    """What a polled message says of itself."""

    def __init__(
        self, offset: int, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), key: bytes = b"7"
    ) -> None:
        self._own = (offset, value, list(headers), key)

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._own[0]

    def value(self) -> bytes | None:
        return self._own[1]

    def headers(self) -> list[tuple[str, bytes]]:
        return self._own[2]

    def key(self) -> bytes:
        return self._own[3]

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


def at(offset: int) -> tuple[str, bytes]:
    return "source.offset", offset.to_bytes(8, "big")


def avro(schema: dict, record: dict) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return frame(1, out.getvalue())


class World:
    """Topics and a warehouse as tables; a test fills in what it is about. A raw topic is read when it is scored."""

    def __init__(self, folder: Path) -> None:
        self.engine = duck.connect(folder)
        self.engine.execute("SET threads = 1")  # tables of a few rows
        self._layouts = {
            topic: load(SCHEMAS / layer / f"{e}.avsc")
            for e in Entity
            for layer, topic in (("raw", topics.raw(e)), ("clean", topics.clean(e)))
        }
        self._ledger = without_logical_types(layout(Result.FAULTS))
        self._decoders = {topic: Decoder(s, {1: s}) for topic, s in self._layouts.items()}
        self._decoders[Result.FAULTS] = Decoder(self._ledger, {1: self._ledger})
        self._tables: dict[str, Any] = tables(self.engine, self._decoders)
        self._raw: dict[str, list[Message]] = {topics.raw(e): [] for e in Entity}
        self._position = 0
        for name in ("passed", "stored"):
            self.engine.execute(f"CREATE TABLE {name} (entity VARCHAR, partition BIGINT, upto BIGINT)")
        self.engine.execute("CREATE TABLE settings AS SELECT true AS has_facts, false AS has_positions")
        self.engine.execute("CREATE TABLE facts (id BIGINT, facts BIGINT, quantity INT)")
        self.engine.execute("CREATE TABLE warehouse_id (id VARCHAR)")
        counts = ", ".join(f"{n} BIGINT" for n in ("size", "start", "store_id", "transactions", "units_returned"))
        self.engine.execute(f"CREATE TABLE window_counts ({counts})")
        window_sizes(self.engine, "1m")
        for e in DIMENSIONS:
            columns = [f"{a} {'BIGINT' if a in named(e, Holds.AMOUNT) else self._type(e, a)}" for a in attributes(e)]
            times = [f"{t} BIGINT" for t in ("last_update_time", "valid_from", "valid_to")]
            key = f"{e.removesuffix('s')}_id BIGINT"
            self.engine.execute(f"CREATE TABLE dim_{e} ({', '.join([key, *columns, *times])}, is_current BOOLEAN)")

    def _type(self, entity: Entity, name: str) -> str:
        fields = self._layouts[topics.clean(entity)]["fields"]
        return "VARCHAR" if next(f["type"] for f in fields if f["name"] == name) == "string" else "BIGINT"

    def planted(self, entity: Entity, offset: int, fault: str, expected: str, number: int = 7) -> None:
        entry = {"entity": entity, "partition": 0, "offset": offset, "id": number, "fault": fault, "expected": expected}
        self._tables[Result.FAULTS].take([Message(0, avro(self._ledger, entry))])

    def raw(self, entity: Entity, offset: int, **record: Any) -> None:
        value = avro(self._layouts[topics.raw(entity)], {**RECORDS[entity], **record})
        self._raw[topics.raw(entity)].append(Message(offset, value))

    def clean(self, entity: Entity, offset: int, replay_of: bytes | None = None, **record: Any) -> None:
        headers = [at(offset), *([] if replay_of is None else [("replay.of", replay_of)])]
        value = avro(self._layouts[topics.clean(entity)], {**RECORDS[entity], **record})
        self._put(topics.clean(entity), value, headers)

    def garbage(self, entity: Entity, offset: int) -> None:
        self._put(topics.clean(entity), b"garbage", [at(offset)])

    def deleted(self, offset: int, moment: int) -> None:
        headers = [at(offset), ("sequence.time", moment.to_bytes(8, "big"))]
        self._put(topics.clean(Entity.CUSTOMERS), None, headers)

    def raw_deleted(self, offset: int, moment: int) -> None:
        headers = [("sequence.time", moment.to_bytes(8, "big"))]
        self._raw[topics.raw(Entity.CUSTOMERS)].append(Message(offset, None, headers))

    def _put(self, topic: str, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        self._tables[topic].take([Message(self._position, value, headers)])
        self._position += 1

    def dead(self, entity: Entity, offset: int) -> None:
        names = ("topic", "partition", "offset")
        values = (topics.raw(entity), "0", str(offset))
        headers = [(f"__connect.errors.{n}", v.encode()) for n, v in zip(names, values, strict=True)]
        self._tables[topics.dlq(entity)].take([Message(0, b"any", headers)])

    def late(self, offset: int | None, windows: str | None = "1m@1970-01-01T00:00:00.000000Z", owner: str = "") -> None:
        headers = [
            *([] if offset is None else [at(offset)]),
            *([] if windows is None else [("late.windows", windows.encode())]),
        ]
        headers += [("outbox.id", f"{owner}/1".encode())] if owner else []
        self._tables[Result.LATE].take([Message(0, b"any", headers)])

    def fact(self, number: int = 7, count: int = 1, quantity: int = 1) -> None:
        self.engine.execute("INSERT INTO facts VALUES (?, ?, ?)", [number, count, quantity])

    def window(self, sales: int, start: int = 0, size: int = MINUTE, store: int = 3, returned: int = 0) -> None:
        self.engine.execute("DELETE FROM window_counts WHERE (size, start, store_id) = (?, ?, ?)", [size, start, store])
        self.engine.execute("INSERT INTO window_counts VALUES (?, ?, ?, ?, ?)", [size, start, store, sales, returned])

    def at_position(self, entity: Entity, *, passed: int | None = None, stored: int | None = None) -> None:
        self.engine.execute("UPDATE settings SET has_positions = true")
        for name, upto in (("passed", passed), ("stored", stored)):
            self.engine.execute(f"DELETE FROM {name} WHERE entity = ?", [entity])
            if upto is not None:
                self.engine.execute(f"INSERT INTO {name} VALUES (?, 0, ?)", [entity, upto])

    def without_facts(self) -> None:
        self.engine.execute("UPDATE settings SET has_facts = false")

    def version(self, since: int, until: int | None, **record: Any) -> None:
        row = {**CUSTOMER, **record, "last_update_time": since, "valid_from": since, "valid_to": until}
        row["is_current"] = until is None
        self.engine.execute(
            f"INSERT INTO dim_customers ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values())
        )

    def judged(self) -> Score:
        for topic, table in planted_tables(self.engine, self._decoders).items():
            table.take(self._raw[topic])  # type: ignore[attr-defined]
        return judge(self.engine)

    def score(self) -> FaultScore:
        (only,) = self.judged().faults
        return only

    @property
    def on_its_way(self) -> bool:
        score = self.score()
        return (score.planted, score.handled, score.missed, score.on_its_way) == (1, 0, 0, 1)

    def why(self) -> str:
        score = self.score()
        assert (score.planted, score.handled, score.missed) == (1, 0, 1)
        return score.examples[0].partition(": ")[2]

    @property
    def handled(self) -> bool:
        score = self.score()
        return (score.planted, score.handled, score.missed) == (1, 1, 0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.engine.close()


def test_what_must_be_rejected_is_a_dead_letter_and_nothing_else(world: World) -> None:
    world.planted(Entity.SALES, 5, "negative_discount", "rejected")
    world.dead(Entity.SALES, 4)
    assert world.why() == "it is no dead letter"
    world.dead(Entity.SALES, 5)
    assert world.handled
    world.clean(Entity.SALES, 5)
    assert world.why() == "it is in the clean topic"


def test_a_return_is_kept_and_has_one_fact_that_is_a_return(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    assert world.why() == "it is not in the clean topic"
    world.clean(Entity.SALES, 5, quantity=-2)
    world.window(1, returned=2)
    assert world.why() == "it has no fact"
    world.fact(quantity=2)
    assert world.why() == "its fact is no return"
    world.engine.execute("UPDATE facts SET quantity = -2")
    assert world.handled
    world.clean(Entity.SALES, 5, quantity=-2)  # at least once
    assert world.handled
    world.dead(Entity.SALES, 5)
    assert world.why() == "it is a dead letter"


def test_a_duplicate_has_one_fact_wherever_it_was_dropped(world: World) -> None:
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.fact()
    world.window(1)
    assert world.why() == "it is not in the clean topic"
    world.clean(Entity.SALES, 4)
    assert world.handled
    world.clean(Entity.SALES, 5)
    assert world.handled
    world.engine.execute("UPDATE facts SET facts = 2")
    assert world.why() == "it has more than one fact"


def test_another_sale_of_the_same_transaction_id_has_a_fact_of_its_own(world: World) -> None:
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.clean(Entity.SALES, 4)
    world.clean(Entity.SALES, 5)
    world.clean(Entity.SALES, 6, event_time=40_000_000)
    world.window(2)
    world.fact(count=2)
    assert world.handled


def test_whether_a_sale_ended_too_late_the_late_topic_says(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    world.window(1)
    assert (world.handled, world.score().too_late) == (True, 0)
    world.window(0)
    world.late(5)
    assert (world.handled, world.score().too_late) == (True, 1)


def test_a_late_sale_is_in_its_window_or_on_the_late_topic(world: World) -> None:
    world.planted(Entity.SALES, 5, "too_late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    assert world.why() == "it is in no window and not on sales.late"
    world.clean(Entity.SALES, 6, transaction_id=8)
    world.window(1)
    assert world.why() == "its window lacks sales that are not on sales.late"
    world.window(2)
    assert world.handled
    world.late(5)
    assert world.why() == "it is on sales.late, and its window counts it"
    world.window(1)
    assert world.handled


def test_the_late_topic_excuses_only_the_windows_that_it_names(world: World) -> None:
    #   0m      1m      2m
    #   |-------|---x---|        1m    x is on sales.late as too late for this one
    #   |-----------x---|        2m/1m
    #           |---x-----------|      and counts in these two
    window_sizes(world.engine, "1m,2m/1m")
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5, event_time=90_000_000)
    world.fact()
    world.late(5, "1m@1970-01-01T00:01:00.000000Z")
    world.window(1, start=0, size=2 * MINUTE)
    assert world.why() == "its window lacks sales that are not on sales.late"
    world.window(1, start=MINUTE, size=2 * MINUTE)
    assert world.handled
    world.window(1, start=MINUTE)
    assert world.why() == "it is on sales.late, and its window counts it"


def test_a_late_record_that_does_not_say_what_it_missed_may_have_missed_any_window(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    world.late(5, None)
    assert world.handled
    world.window(1)
    assert world.handled
    world.window(2)
    assert world.why() == "it is on sales.late, and its window counts it"


def test_a_late_record_that_does_not_say_where_it_was_may_have_missed_any_window(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    for offset in (5, 6, 7):
        world.clean(Entity.SALES, offset, transaction_id=offset + 2)
    world.fact()
    for _ in range(2):
        world.late(None)
    world.window(1)
    assert world.handled
    world.engine.execute("DELETE FROM window_counts")
    assert world.why() == "it is in no window and not on sales.late"


def test_what_another_warehouse_found_late_is_no_excuse(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    world.late(5, owner="old")
    world.engine.execute("INSERT INTO warehouse_id VALUES ('new')")
    assert world.why() == "it is in no window and not on sales.late"
    world.late(5, owner="new")
    assert world.handled


@pytest.mark.parametrize("cleaned", [True, False], ids=["kept in the clean topic", "dropped before it"])
def test_a_duplicate_counts_once_in_its_window_without_facts_too(world: World, cleaned: bool) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.raw(Entity.SALES, 5)
    world.clean(Entity.SALES, 4)
    if cleaned:
        world.clean(Entity.SALES, 5)
    world.window(2)
    assert world.why() == "its window counts it twice"
    world.window(1)
    assert world.handled


def test_a_copy_of_a_sale_whose_windows_are_final_is_late_or_nowhere(world: World) -> None:
    world.planted(Entity.SALES, 9, "duplicate", "counted_once")
    world.clean(Entity.SALES, 5)
    world.clean(Entity.SALES, 9)
    world.fact()
    world.window(1)
    assert world.handled
    world.late(9)  # it is held no longer
    assert world.handled
    world.window(0)
    assert world.why() == "its window lacks sales that are not on sales.late"


def test_a_return_counts_as_a_return_without_facts_too(world: World) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "return", "kept")
    world.clean(Entity.SALES, 5, quantity=-2)
    assert world.why() == "it is in no window and not on sales.late"
    world.window(1)
    assert world.why() == "its window counts it as no return"
    world.window(1, returned=2)
    assert world.handled


def test_windows_are_compared_up_to_where_the_warehouse_is(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.clean(Entity.SALES, 6, transaction_id=8)
    world.fact()
    world.at_position(Entity.SALES, passed=9, stored=5)
    world.window(1)
    assert world.handled
    world.at_position(Entity.SALES, passed=9, stored=6)
    assert world.why() == "its window lacks sales that are not on sales.late"


def test_a_replayed_sale_counts_once(world: World) -> None:
    world.planted(Entity.SALES, 6, "burst", "kept")
    world.clean(Entity.SALES, 6, replay_of=b"sales.raw/0/1")
    world.clean(Entity.SALES, 8, replay_of=b"sales.raw/0/1")
    world.fact()
    world.window(1)
    assert world.handled


@pytest.mark.parametrize(
    ("starts", "size", "slide"),
    [((0, 60), 60, 60), ((0, 180), 60, 60), ((0, 60, 180), 300, 60), ((0, 120), 300, 60), ((30, 90), 60, 30)],
)
def test_the_windows_of_a_pipeline_that_does_not_tell_are_told_from_what_it_has(
    world: World, starts: Sequence[int], size: int, slide: int
) -> None:
    for start in starts:
        world.window(1, start=start, size=size)
    window_sizes(world.engine, None)
    assert world.engine.execute("FROM window_sizes").fetchall() == [(size, slide)]


def test_a_pipeline_without_any_window_lacks_those_of_a_minute(world: World) -> None:
    window_sizes(world.engine, None)
    assert world.engine.execute("FROM window_sizes").fetchall() == [(MINUTE, MINUTE)]


def test_a_clean_sale_is_the_one_that_was_published(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.raw(Entity.SALES, 5)
    world.clean(Entity.SALES, 5, event_time=90_000_000)
    world.fact()
    world.window(1, start=MINUTE)
    assert world.why() == "its clean record has another event_time"


def test_a_clean_sale_can_be_read(world: World) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "return", "kept")
    world.garbage(Entity.SALES, 5)
    assert world.why() == "its clean record cannot be read"


def test_a_rejected_sale_has_no_fact(world: World) -> None:
    world.planted(Entity.SALES, 5, "negative_discount", "rejected")
    world.dead(Entity.SALES, 5)
    world.fact()
    assert world.why() == "it is a dead letter, and has a fact"
    world.clean(Entity.SALES, 9, replay_of=b"sales.raw/0/5")
    assert world.handled


def test_a_rejected_sale_is_in_no_window(world: World) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "negative_discount", "rejected")
    world.raw(Entity.SALES, 5, discount_applied=-1.0)
    world.dead(Entity.SALES, 5)
    world.window(1)
    assert world.why() == "it is a dead letter, and its window counts more than the clean sales"
    world.clean(Entity.SALES, 4, transaction_id=6)
    assert world.handled


def test_an_empty_email_gets_its_default(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 5, "null_email", "defaulted")
    world.raw(Entity.CUSTOMERS, 5, email=None)
    world.version(100, None, email="Unknown")
    world.clean(Entity.CUSTOMERS, 5, email="")
    assert world.why() == "its empty field has no default"
    world.engine.execute("UPDATE clean_customers SET email = 'Unknown'")
    assert world.handled


def test_a_default_is_in_the_history_too(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 5, "null_email", "defaulted")
    world.clean(Entity.CUSTOMERS, 5, email="Unknown")
    assert world.why() == "the history of its id is another"
    world.version(100, None, email="Unknown")
    assert world.handled


def test_an_update_out_of_order_takes_its_place_in_the_history(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "out_of_order_update", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5, last_update_time=100)
    world.clean(Entity.CUSTOMERS, 6, last_update_time=50, loyalty_points=5)
    world.version(100, None)
    assert world.why() == "the history of its id is another"
    world.version(50, 100, loyalty_points=5)
    assert world.handled
    world.version(20, 50, loyalty_points=4)
    assert world.why() == "the history of its id is another"


@pytest.mark.parametrize(
    ("made", "field"),
    [({"last_update_time": 900}, "last_update_time"), ({"customer_id": 8}, "customer_id"), ({"age": 31}, "age")],
)
def test_a_clean_change_is_the_one_that_was_published(world: World, made: dict, field: str) -> None:
    record = {"customer_id": 7, "last_update_time": 50, "loyalty_points": 5, "age": 30}
    world.planted(Entity.CUSTOMERS, 6, "out_of_order_update", "merged_in_order", number=record["customer_id"])
    world.raw(Entity.CUSTOMERS, 6, **record)
    changed = record | made
    world.clean(Entity.CUSTOMERS, 6, **changed)
    if changed["customer_id"] == 7:
        world.version(changed["last_update_time"], None, loyalty_points=5, age=changed["age"])
    assert world.why() == f"its clean record has another {field}"


def test_a_clean_change_can_be_read(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "no_change_update", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5)
    world.garbage(Entity.CUSTOMERS, 6)
    world.version(100, None)
    assert world.why() == "its clean record cannot be read"


def test_a_tombstone_closes_the_version(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.raw_deleted(6, 150)
    world.clean(Entity.CUSTOMERS, 5, last_update_time=100)
    world.deleted(6, 150)
    world.version(100, None)
    assert world.why() == "the history of its id is another"
    world.engine.execute("UPDATE dim_customers SET valid_to = 150, is_current = false")
    assert world.handled


@pytest.mark.parametrize("how", ["garbage", "clean"])
def test_a_tombstone_stays_one(world: World, how: str) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5)
    getattr(world, how)(Entity.CUSTOMERS, 6)
    world.version(100, None)
    assert world.why() == "its delete became a clean record"


def test_a_tombstone_keeps_its_time(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.raw_deleted(6, 150)
    world.clean(Entity.CUSTOMERS, 5)
    world.deleted(6, 170)
    world.version(100, 170)
    assert world.why() == "its clean record has another last_update_time"


def test_an_update_does_not_become_a_delete(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "no_change_update", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5)
    world.deleted(6, 150)
    world.version(100, 150)
    assert world.why() == "its clean record is a delete"


def test_a_rejected_change_makes_no_version(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "future_event_time", "rejected")
    world.raw(Entity.CUSTOMERS, 6, last_update_time=900)
    world.clean(Entity.CUSTOMERS, 5)
    world.dead(Entity.CUSTOMERS, 6)
    world.version(100, None)
    assert world.handled
    world.engine.execute("UPDATE dim_customers SET valid_to = 900, is_current = false")
    world.version(900, None)
    assert world.why() == "it is a dead letter, and made a version"


def test_of_several_clean_records_of_a_place_the_first_counts(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 5, "burst", "kept")
    world.raw(Entity.CUSTOMERS, 5)
    world.clean(Entity.CUSTOMERS, 5)
    world.clean(Entity.CUSTOMERS, 5, age=31)
    world.version(100, None)
    assert world.handled


def test_what_the_pipeline_has_not_come_to_yet_is_on_its_way(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    world.at_position(Entity.SALES, passed=5, stored=4)
    assert world.on_its_way
    world.clean(Entity.SALES, 5, quantity=-1)
    assert world.on_its_way
    world.at_position(Entity.SALES, passed=6, stored=4)
    assert world.on_its_way
    world.at_position(Entity.SALES, passed=6, stored=5)
    assert world.why() == "it has no fact"


@pytest.mark.parametrize("lost", [False, True], ids=["a dead letter", "nowhere"])
def test_what_the_cleaner_threw_away_is_not_on_its_way(world: World, lost: bool) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    if not lost:
        world.dead(Entity.SALES, 5)
    world.at_position(Entity.SALES, passed=5, stored=4)
    assert world.on_its_way
    world.at_position(Entity.SALES, passed=6, stored=4)
    assert world.why() == ("it is not in the clean topic" if lost else "it is a dead letter")


def test_what_is_wrong_in_the_clean_topic_does_not_wait_for_the_warehouse(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 6)
    world.at_position(Entity.CUSTOMERS, passed=7, stored=5)
    assert world.why() == "its delete became a clean record"


def test_nothing_is_handled_before_the_warehouse_has_come_to_it(world: World) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.at_position(Entity.SALES, passed=9, stored=4)
    assert world.on_its_way


def test_a_copy_that_was_dropped_waits_for_the_sale_that_it_repeats(world: World) -> None:
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.raw(Entity.SALES, 5)
    world.clean(Entity.SALES, 4)
    world.at_position(Entity.SALES, passed=6, stored=3)
    assert world.on_its_way
    world.at_position(Entity.SALES, passed=6, stored=4)
    assert world.why() == "it has no fact"


@pytest.mark.parametrize("cleaned", [False, True])
def test_a_pipeline_that_has_just_started_has_missed_nothing(world: World, cleaned: bool) -> None:
    """No offset of the cleaner is committed yet, no position stored."""
    world.planted(Entity.SALES, 5, "return", "kept")
    if cleaned:
        world.clean(Entity.SALES, 5, quantity=-1)
    world.at_position(Entity.SALES, passed=6 if cleaned else None)
    assert world.on_its_way


def test_a_pipeline_that_keeps_no_positions_is_taken_as_drained(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    assert world.why() == "it is not in the clean topic"


def test_the_report_names_what_was_missed(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    world.planted(Entity.SALES, 6, "corrupt_bytes", "rejected", number=8)
    world.dead(Entity.SALES, 6)
    out = io.StringIO()
    result = world.judged()
    show(result, Console(file=out, width=200))
    assert out.getvalue().splitlines() == [
        "✓ corrupt_bytes  planted         1  handled         1  missed       0",
        "✗ return         planted         1  handled         0  missed       1",
        "    sales.raw/0@5 (id 7): it is not in the clean topic",
        "1 of 2 faults missed",
    ]
    assert json.loads(json.dumps(result.as_dict()))["ok"] is False
