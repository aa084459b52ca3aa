"""Damages that `score` must see, each to another planted record: in the pipeline's topics, and in its warehouse."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

import fastavro
from confluent_kafka import Message

from retail_stream.dead_letters import Header
from retail_stream.entities import Entity
from retail_stream.kafka.headers import SOURCE_OFFSET, big_endian, headers_by_name
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import Result, clean, dlq, topic
from tests.integration.commands.verify.damages import altered

Place = tuple[str, int, int]
_KEPT = ("kept", "counted_or_late", "defaulted", "merged_in_order")


class Planted(NamedTuple):
    """An entry of the ledger."""

    entity: str
    partition: int
    offset: int
    id: int
    fault: str
    expected: str

    @property
    def shown(self) -> str:
        """How an example of `score` begins."""
        return f"{self.entity}.raw/{self.partition}@{self.offset} "

    @property
    def place(self) -> Place:
        return self.entity, self.partition, self.offset


class Records:
    """The ledger, and the records of the pipeline by the raw record that they are of."""

    def __init__(self, connections: Connections) -> None:
        schema = _parsed(Result.FAULTS.value)
        entries = (_decoded(schema, m.value()) for m in read_to_end(connections, Result.FAULTS.value))
        self.planted = [Planted(*(e[n] for n in Planted._fields)) for e in entries]
        self.clean, self.dead = {}, {}
        for entity in Entity:
            for m in read_to_end(connections, clean(entity)):
                offset = big_endian(headers_by_name(m).get(SOURCE_OFFSET))
                self.clean[entity.value, m.partition(), offset] = m
            for m in read_to_end(connections, dlq(entity)):
                self.dead[entity.value, m.partition(), int(headers_by_name(m)[Header.OFFSET] or b"")] = m
        late = read_to_end(connections, Result.LATE.value)
        self.late = {("sales", m.partition(), big_endian(headers_by_name(m).get(SOURCE_OFFSET))): m for m in late}

    def of(self, *expected: str, entity: str | None = None) -> list[Planted]:
        """The entries of which this is expected."""
        return [p for p in self.planted if p.expected in expected and entity in (None, p.entity)]


def of_topics(records: Records) -> Iterator[tuple[str, Planted, Message, Message | None, str]]:
    """(damage, entry, record, what is read instead, words of the example)."""
    used: set[Place] = set()

    def free(entries: Sequence[Planted], among: Mapping[Any, Message]) -> Planted:
        p = next(p for p in entries if p.place not in used and p.place in among)
        used.add(p.place)
        return p

    for fault in dict.fromkeys(p.fault for p in records.of("rejected")):
        p = free([q for q in records.of("rejected") if q.fault == fault], records.dead)
        yield f"{fault}: no dead letter", p, records.dead[p.place], None, "it is not a dead letter"
    for entity, fault in dict.fromkeys((p.entity, p.fault) for p in records.of(*_KEPT)):
        p = free([q for q in records.of(*_KEPT, entity=entity) if q.fault == fault], records.clean)
        yield f"{entity} {fault}: no clean record", p, records.clean[p.place], None, "it is not in the clean topic"
    for entity in (Entity.SALES.value, Entity.CUSTOMERS.value):
        schema = _parsed(clean(Entity(entity)))
        for field in schema["fields"]:
            whole = {at: m for at, m in records.clean.items() if at[0] == entity and _is_of(schema, m)}
            p = free(records.of(*_KEPT, entity=entity), whole)
            m = records.clean[p.place]
            record = _decoded(schema, m.value())
            record[field["name"]] = _other(record[field["name"]])
            instead = altered(m, value=(m.value() or b"")[:5] + _encoded(schema, record))
            words = (
                "has no default"
                if p.expected == "defaulted" and field["name"] in ("email", "manager")
                else (f"its clean record has another {field['name']}")
            )
            yield f"{entity}: another {field['name']}", p, m, instead, words
    partitions = {partition: m for (_, partition, _), m in records.late.items()}
    in_time = [q for q in records.of(*_KEPT, entity="sales") if q.place not in records.late]
    p = free([q for q in in_time if q.partition in partitions], records.clean)
    m = partitions[p.partition]
    sold = _decoded(_parsed(clean(Entity.SALES)), records.clean[p.place].value())
    start = sold["event_time"].replace(second=sold["event_time"].second // 5 * 5, microsecond=0)
    own = {SOURCE_OFFSET: p.offset.to_bytes(8, "big"), "late.windows": f"5s@{start.isoformat()}".encode()}
    moved = [(n, own.get(n, v)) for n, v in m.headers() or ()]
    yield "in time, and late", p, m, altered(m, headers=moved), "it is on sales.late, and was in time"


#: Column of a fact → another value.
_OF_FACTS = {
    **dict.fromkeys(("customer_id", "product_id", "quantity"), "{0} + 7"),
    **dict.fromkeys(("unit_price", "total_amount", "discount_applied", "tax_amount"), "{0} + 0.01"),
    "payment_method": "{0} || '!'",
}
_OF_WINDOWS = {
    **dict.fromkeys(("transactions", "units_sold", "units_returned"), "{0} + 1"),
    **dict.fromkeys(("gross_sales", "returns_amount", "discounts", "taxes"), "{0} + 0.01"),
}


def of_warehouse(records: Records) -> Iterator[tuple[str, Planted, str, Sequence[str]]]:
    """(damage, entry, SQL that changes one row or more, words of which one is in the example)."""
    used: set[int] = set()
    ids = Counter(p.id for p in records.of(*_KEPT, "counted_once", entity="sales"))
    kept = [p for p in records.of(*_KEPT, entity="sales") if ids[p.id] == 1 and p.place not in records.late]

    def free(entries: Sequence[Planted]) -> Planted:
        p = next(p for p in entries if p.id not in used)
        used.add(p.id)
        return p

    for column, value in _OF_FACTS.items():
        p = free(kept)
        sql = f"UPDATE fact_sales SET {column} = {value.format(column)} WHERE transaction_id = {p.id}"
        yield f"another {column} of a fact", p, sql, [f"its fact has another {column}", "its fact is not a return"]
    p = free(kept)
    yield "no fact", p, f"DELETE FROM fact_sales WHERE transaction_id = {p.id}", ["it has no fact"]
    p = free(records.of("rejected", entity="sales"))
    columns = "store_id, event_time, customer_id, product_id, quantity, unit_price, total_amount, payment_method"
    columns += ", discount_applied, tax_amount"
    sql = f"INSERT INTO fact_sales (transaction_id, {columns}) SELECT {p.id}, {columns} FROM fact_sales LIMIT 1"
    yield "a fact of a rejected sale", p, sql, ["it is a dead letter, and has a fact"]
    for column, value in _OF_WINDOWS.items():
        p = free(kept)
        sql = f"""
            UPDATE sales_by_window w SET {column} = {value.format(column)} FROM fact_sales f
            WHERE f.transaction_id = {p.id} AND w.store_id = f.store_id AND w.window_size = interval '5 s'
              AND w.window_start <= f.event_time AND w.window_end > f.event_time
        """
        yield f"another {column} of a window", p, sql, ["its window"]
    for entity in ("customers", "products", "stores"):
        p = free([q for q in records.of(*_KEPT, entity=entity) if q.fault != "tombstone"])
        key = f"{entity.removesuffix('s')}_id"
        sql = f"UPDATE dim_{entity} SET name = name || '!' WHERE {key} = {p.id}"
        yield f"another name in dim_{entity}", p, sql, ["the history of its id is another"]


def _parsed(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", fastavro.parse_schema(topic(name).schema()))


def _is_of(schema: Any, m: Message) -> bool:
    """Whether a record has this schema, not a newer one."""
    value = m.value()
    try:
        return value is not None and _encoded(schema, _decoded(schema, value)) == value[5:]
    except (EOFError, ValueError, IndexError, UnicodeDecodeError):
        return False


def _decoded(schema: Any, value: bytes | None) -> dict[str, Any]:
    return cast("dict[str, Any]", fastavro.schemaless_reader(io.BytesIO((value or b"")[5:]), schema, None))


def _encoded(schema: Any, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def _other(value: Any) -> Any:
    if isinstance(value, str):
        return value + "!"
    return value + (timedelta(seconds=1) if isinstance(value, datetime) else 1)
