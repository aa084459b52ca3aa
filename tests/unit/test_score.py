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
from retail_stream.score.judge import FaultScore, judge
from retail_stream.score.tables import layout, tables
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
    """Topics and a warehouse as tables; a test fills in what it is about."""

    def __init__(self, folder: Path) -> None:
        self.engine = duck.connect(folder)
        self._layouts: dict[Entity, dict] = {e: load(SCHEMAS / "clean" / f"{e}.avsc") for e in DIMENSIONS}
        self._ledger = without_logical_types(layout(Result.FAULTS))
        decoders = {topics.clean(e): Decoder(s, {1: s}) for e, s in self._layouts.items()}
        decoders[Result.FAULTS] = Decoder(self._ledger, {1: self._ledger})
        self._tables: dict[str, Any] = tables(self.engine, self._layouts, decoders)
        for name in ("passed", "stored"):
            self.engine.execute(f"CREATE TABLE {name} (entity VARCHAR, partition BIGINT, upto BIGINT)")
        self.engine.execute("CREATE TABLE settings AS SELECT true AS has_facts")
        self.engine.execute("CREATE TABLE facts (id BIGINT, facts BIGINT, quantity INT)")
        for e in DIMENSIONS:
            columns = [f"{a} {'BIGINT' if a in named(e, Holds.AMOUNT) else self._type(e, a)}" for a in attributes(e)]
            times = [f"{t} BIGINT" for t in ("last_update_time", "valid_from", "valid_to")]
            key = f"{e.removesuffix('s')}_id BIGINT"
            self.engine.execute(f"CREATE TABLE dim_{e} ({', '.join([key, *columns, *times])}, is_current BOOLEAN)")

    def _type(self, entity: Entity, name: str) -> str:
        kind = next(f["type"] for f in self._layouts[entity]["fields"] if f["name"] == name)
        return "VARCHAR" if kind == "string" else "BIGINT"

    def planted(self, entity: Entity, offset: int, fault: str, expected: str, number: int = 7) -> None:
        entry = {"entity": entity, "partition": 0, "offset": offset, "id": number, "fault": fault, "expected": expected}
        self._tables[Result.FAULTS].take([Message(0, avro(self._ledger, entry))])

    def clean(self, entity: Entity, offset: int, **record: Any) -> None:
        value = avro(self._layouts[entity], {**CUSTOMER, **record}) if entity in self._layouts else b"any"
        self._tables[topics.clean(entity)].take([Message(0, value, [at(offset)])])

    def deleted(self, offset: int, moment: int) -> None:
        headers = [at(offset), ("sequence.time", moment.to_bytes(8, "big"))]
        self._tables[topics.clean(Entity.CUSTOMERS)].take([Message(0, None, headers)])

    def dead(self, entity: Entity, offset: int) -> None:
        names = ("topic", "partition", "offset")
        values = (topics.raw(entity), "0", str(offset))
        headers = [(f"__connect.errors.{n}", v.encode()) for n, v in zip(names, values, strict=True)]
        self._tables[topics.dlq(entity)].take([Message(0, b"any", headers)])

    def late(self, offset: int) -> None:
        self._tables[Result.LATE].take([Message(0, b"any", [at(offset)])])

    def fact(self, number: int = 7, count: int = 1, quantity: int = 1) -> None:
        self.engine.execute("INSERT INTO facts VALUES (?, ?, ?)", [number, count, quantity])

    def version(self, since: int, until: int | None, **record: Any) -> None:
        row = {**CUSTOMER, **record, "last_update_time": since, "valid_from": since, "valid_to": until}
        row["is_current"] = until is None
        self.engine.execute(
            f"INSERT INTO dim_customers ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values())
        )

    def score(self) -> FaultScore:
        (only,) = judge(self.engine).faults
        return only

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
    world.clean(Entity.SALES, 5)
    assert world.why() == "it has no fact"
    world.fact(quantity=2)
    assert world.why() == "its fact is no return"
    world.engine.execute("UPDATE facts SET quantity = -2")
    assert world.handled
    world.clean(Entity.SALES, 5)  # at least once
    assert world.handled
    world.dead(Entity.SALES, 5)
    assert world.why() == "it is a dead letter"


def test_a_duplicate_has_one_fact_wherever_it_was_dropped(world: World) -> None:
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.fact()
    assert world.handled
    world.clean(Entity.SALES, 5)
    assert world.handled
    world.engine.execute("UPDATE facts SET facts = 2")
    assert world.why() == "it has more than one fact"


def test_whether_a_sale_ended_too_late_the_late_topic_says(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    assert (world.handled, world.score().too_late) == (True, 0)
    world.late(5)
    assert (world.handled, world.score().too_late) == (True, 1)


def test_without_facts_the_topics_decide(world: World) -> None:
    world.engine.execute("UPDATE settings SET has_facts = false")
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    assert world.handled


def test_an_empty_email_gets_its_default(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 5, "null_email", "defaulted")
    world.clean(Entity.CUSTOMERS, 5, email="")
    assert world.why() == "its empty field has no default"
    world.engine.execute("UPDATE clean_customers SET email = 'Unknown'")
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


def test_a_tombstone_closes_the_version(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5, last_update_time=100)
    world.deleted(6, 150)
    world.version(100, None)
    assert world.why() == "the history of its id is another"
    world.engine.execute("UPDATE dim_customers SET valid_to = 150, is_current = false")
    assert world.handled


def test_what_the_pipeline_has_not_come_to_yet_is_on_its_way(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    world.engine.execute("INSERT INTO passed VALUES ('sales', 0, 5)")
    assert (world.score().missed, world.score().on_its_way) == (0, 1)
    world.engine.execute("UPDATE passed SET upto = 6")
    assert world.score().missed == 1
    world.clean(Entity.SALES, 5)
    world.engine.execute("INSERT INTO stored VALUES ('sales', 0, 4)")
    assert (world.score().missed, world.score().on_its_way) == (0, 1)
    world.engine.execute("UPDATE stored SET upto = 5")
    assert world.why() == "it has no fact"


def test_the_report_names_what_was_missed(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    world.planted(Entity.SALES, 6, "corrupt_bytes", "rejected", number=8)
    world.dead(Entity.SALES, 6)
    out = io.StringIO()
    result = judge(world.engine)
    show(result, Console(file=out, width=200))
    assert out.getvalue().splitlines() == [
        "✓ corrupt_bytes  planted         1  handled         1  missed       0",
        "✗ return         planted         1  handled         0  missed       1",
        "    sales.raw/0@5 (id 7): it is not in the clean topic",
        "1 of 2 faults missed",
    ]
    assert json.loads(json.dumps(result.as_dict()))["ok"] is False
