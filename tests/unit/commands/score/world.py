"""Small topics and warehouses to be scored: for each thing that should happen, one where it did and some where not."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro

from commands.audit import engine as duck
from commands.audit import retained
from commands.audit.avro import Decoder, layout
from commands.audit.layouts import Holds, named
from commands.audit.rule_sets import RuleSets
from commands.audit.versions import attributes
from commands.audit.windows import COUNTS, MONEY
from commands.score import rules
from commands.score.judge import FaultScore, Score, judge
from commands.score.tables import planted_tables, tables
from commands.score.warehouse import FACT_AMOUNTS, FACT_NUMBERS, window_sizes
from retail_stream import topics
from retail_stream.avro.decode import frame
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.rules.rule_set import RuleSet
from retail_stream.topics import Result

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


def avro(schema: Mapping[str, Any], record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, dict(schema), record)
    return frame(1, out.getvalue())


class World:
    """Topics and a warehouse as tables; a test fills in what it is about. A raw topic is read when it is scored."""

    def __init__(self, folder: Path) -> None:
        self.engine = duck.connect(folder)
        self.engine.execute("SET threads = 1")  # tables of a few rows
        self._layouts = {topic: layout(topic) for e in Entity for topic in (topics.raw(e), topics.clean(e))}
        self._ledger, rises = layout(Result.FAULTS), layout(Result.WATERMARKS)
        self._decoders = {topic: Decoder(s, {1: s}) for topic, s in self._layouts.items()}
        self._decoders[Result.FAULTS] = Decoder(self._ledger, {1: self._ledger})
        self._decoders[Result.WATERMARKS] = Decoder(rises, {1: rises})
        self._tables: dict[str, Any] = tables(self.engine, self._decoders)
        self._raw: dict[str, list[Message]] = {topics.raw(e): [] for e in Entity}
        self._position = 0
        self.books = {e: RuleSets(RuleSet(e, ())) for e in Entity}
        for name in ("passed", "stored"):
            self.engine.execute(f"CREATE TABLE {name} (entity VARCHAR, partition BIGINT, upto BIGINT)")
        self.engine.execute("""
            CREATE TABLE settings AS
            SELECT true AS has_facts, false AS has_positions, NULL::BIGINT AS delay, NULL::BIGINT AS lateness
        """)
        numbers = ", ".join(f"{n} BIGINT" for n in ("id", "facts", "event_time", *FACT_NUMBERS, *FACT_AMOUNTS))
        self.engine.execute(f"CREATE TABLE facts ({numbers}, payment_method VARCHAR)")
        self.engine.execute("CREATE TABLE warehouse_id (id VARCHAR)")
        for name, (_, schema) in retained.NEEDS.items():
            duck.create(self.engine, name, schema)
        counts = ", ".join(f"{n} BIGINT" for n in ("size", "start", "store_id", *COUNTS, *MONEY))
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
        key = str({**RECORDS[entity], **record}[FIELDS[entity].key])
        self._raw[topics.raw(entity)].append(Message(offset, value, key=key.encode()))

    def clean(
        self, entity: Entity, offset: int, replay_of: bytes | None = None, version: str = "", **record: Any
    ) -> None:
        headers = [
            at(offset),
            ("rules.version", version.encode()),
            *([] if replay_of is None else [("replay.of", replay_of)]),
        ]
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

    def dead(self, entity: Entity, offset: int, version: str = "") -> None:
        names = ("topic", "partition", "offset")
        values = (topics.raw(entity), "0", str(offset))
        headers = [(f"__connect.errors.{n}", v.encode()) for n, v in zip(names, values, strict=True)]
        headers += [("rules.version", version.encode())]
        self._tables[topics.dlq(entity)].take([Message(0, b"any", headers)])

    def late(self, offset: int | None, windows: str | None = "1m@1970-01-01T00:00:00.000000Z", owner: str = "") -> None:
        headers = [
            *([] if offset is None else [at(offset)]),
            *([] if windows is None else [("late.windows", windows.encode())]),
        ]
        headers += [("outbox.id", f"{owner}/1".encode())] if owner else []
        self._tables[Result.LATE].take([Message(0, b"any", headers)])

    def fact(self, number: int = 7, count: int = 1, **record: Any) -> None:
        sale = {name: value for name, value in {**SALE, **record}.items() if name != "transaction_id"}
        row = {"id": number, "facts": count, **{n: v * 100 if n in FACT_AMOUNTS else v for n, v in sale.items()}}
        self._insert("facts", row)

    def window(
        self, sales: int, start: int = 0, size: int = MINUTE, store: int = 3, returned: int = 0, **sums: int
    ) -> None:
        """A window of sales like SALE, one of them a return if pieces were returned; ``sums``: others, in cents."""
        self.engine.execute("DELETE FROM window_counts WHERE (size, start, store_id) = (?, ?, ?)", [size, start, store])
        row = {"size": size, "start": start, "store_id": store, "transactions": sales, "units_returned": returned}
        sold = sales - bool(returned)
        # The amount of SALE is positive, also where a test makes it a return.
        row |= {"units_sold": sold, "gross_sales": 500 * sold, "returns_amount": -500 * bool(returned)}
        row |= {"discounts": 0, "taxes": 0, **sums}
        row["net_sales"] = sums.get("net_sales", row["gross_sales"] - row["returns_amount"] - row["discounts"])
        self._insert("window_counts", row)

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        values = ", ".join("?" * len(row))
        self.engine.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})", list(row.values()))

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
        for topic, table in planted_tables(self.engine, self._decoders, self.books).items():
            table.take(self._raw[topic])
        for book in self.books.values():
            rules.expect(self.engine, book)
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
