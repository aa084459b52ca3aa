"""Schemas of other producers, a record of each, and what the pipeline has to make of it."""

import time
from dataclasses import dataclass, field
from typing import Any

from retail_stream.avro.decode import encode
from retail_stream.avro.schema import plain_schema
from retail_stream.entities import Entity
from tests.harness.avro_reading import text
from tests.harness.avro_values import varint
from tests.harness.examples import examples, schema

NOW_US = time.time_ns() // 1_000_000 * 1000
MONEY = {
    "type": "record",
    "name": "Money",
    "namespace": "m",
    "fields": [{"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}],
}
CENTS = text(b"\0\x80")
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
HOME, WORK = ({"type": "record", "name": n, "fields": [{"name": "street", "type": "string"}]} for n in ("Home", "Work"))
NODE = {
    "type": "record",
    "name": "Node",
    "fields": [{"name": "row", "type": "int"}, {"name": "next", "type": ["null", "Node"]}],
}


def example(entity: Entity) -> dict[str, Any]:
    return dict(next(x for x in examples("valid") if x.entity is entity and x.value and not x.defaults).value or {})


def timed(unit: str) -> Any:
    """The type of a time in a unit; empty for a plain long."""
    return {"type": "long", "logicalType": f"timestamp-{unit}"} if unit else "long"


@dataclass(eq=False)
class Case:
    """A schema of another producer and one record of it.

    ``types``: our fields that it has otherwise, None for one that it lacks. ``more``: its own fields, with their bytes.
    ``values``: of our fields. ``extra``: what has to be in the column ``extra``. ``why``: of its dead letter.
    """

    name: str
    entity: Entity = Entity.SALES
    types: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    more: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    extra: Any = None
    why: str = ""
    rules: str = "valid_avro"
    union: list[Any] = field(default_factory=list)
    references: list[dict[str, Any]] = field(default_factory=list)
    deleted: bool = False
    #: the natural key of its record, and its place
    id: int = 0
    offset: int = -1

    def known(self) -> dict[str, Any]:
        ours = schema(self.entity, "raw")
        fields = [
            {"name": f["name"], "type": self.types.get(f["name"], f["type"])}
            for f in ours["fields"]
            if f["name"] not in self.types or self.types[f["name"]] is not None
        ]
        return {"type": "record", "name": ours["name"], "namespace": ours["namespace"], "fields": fields}

    def writer(self) -> Any:
        record = self.known()
        record["fields"] += [f for f, _ in self.more]
        return [record, *self.union] if self.union else record

    def body(self, values: dict[str, Any]) -> bytes:
        before = b"\0" if self.union else b""
        return before + encode(plain_schema(self.known()), values) + b"".join(b for _, b in self.more)


def new(name: str, avro_type: Any, value: bytes, **more: Any) -> tuple[dict[str, Any], bytes]:
    return {"name": name, "type": avro_type, **more}, value


NULLABLE_LONG = ["null", "double", "long"]
CASES = [
    Case(
        "a required field that holds null",
        types={"quantity": ["int", "null"]},
        values={"quantity": None},
        why="Field quantity: the writer's null, a branch of its union of int, null, cannot be read as the reader's int",
    ),
    Case("a nullable field with a value", types={"quantity": ["int", "null"]}),
    Case("customers without email", Entity.CUSTOMERS, types={"email": None}),
    Case(
        "sales without a field",
        types={"tax_amount": None},
        why="Field tax_amount is missing in the writer's record retail_stream.Sale; the reader expects double",
    ),
    Case("times in milliseconds", types={"event_time": timed("millis")}, values={"event_time": NOW_US // 1000}),
    Case("times in nanoseconds", types={"event_time": timed("nanos")}, values={"event_time": NOW_US * 1000}),
    Case(
        "customers' times in milliseconds",
        Entity.CUSTOMERS,
        types={"last_update_time": timed("millis")},
        values={"last_update_time": NOW_US // 1000},
    ),
    Case(
        "a plain number as time",
        types={"event_time": "long"},
        why="Field event_time: the writer's long cannot be read as the reader's long (timestamp-micros).",
    ),
    Case(
        "a nested record with a decimal",
        more=[
            new(
                "cost",
                ["null", {"type": "record", "name": "Cost", "fields": [{"name": "amount", "type": DECIMAL}]}],
                b"\2" + CENTS,
            )
        ],
        extra={"cost": {"amount": "~decimal:1.28"}},
    ),
    *(
        Case(
            f"a field named {name}",
            entity,
            more=[new(name, ["null", "string"], b"\2" + text("x"), default=None)],
            extra={name: "x"},
        )
        for entity in (Entity.SALES, Entity.STORES)
        for name in ("user", "row", "key", "__header", "offset", "timestamp", "extra", "partition", "deleted")
    ),
    Case("a union at top level", union=[{"type": "record", "name": "Refund", "fields": []}]),
    Case(
        "a type of another subject",
        more=[new("paid", "m.Money", CENTS)],
        references=[{"name": "m.Money", "subject": "money-value", "version": 1}],
        extra={"paid": {"amount": "~decimal:1.28"}},
    ),
    *(
        Case(
            f"{entity}: unions of several types",
            entity,
            more=[
                new("where", ["null", HOME, WORK], b"\4" + text("A")),
                new("n", NULLABLE_LONG, b"\4" + varint(2**60 + 1)),
                new("none", NULLABLE_LONG, b"\0"),
            ],
            extra={"where": {"Work": {"street": "A"}}, "n": {"long": "~long:1152921504606846977"}},
        )
        for entity in (Entity.SALES, Entity.CUSTOMERS)
    ),
    *(
        Case(
            f"{entity}: a double that is an epoch",
            entity,
            more=[new("scanned_at", "double", b"\0\0\0\x80\x9e\x4b\xda\x41")],
            extra={"scanned_at": 1764653568.0},
        )
        for entity in (Entity.SALES, Entity.PRODUCTS)
    ),
    Case(
        "an amount of ours that is too large",
        values={"total_amount": 1e9},
        more=[new("scanned_at", "double", bytes(8))],
        why="sales record breaks: amounts_in_range",
        rules="amounts_in_range",
    ),
    *(
        Case(f"{entity}: decimal bytes", entity, more=[new("rate", DECIMAL, CENTS)], extra={"rate": "~decimal:1.28"})
        for entity in (Entity.SALES, Entity.CUSTOMERS, Entity.PRODUCTS, Entity.STORES)
    ),
    Case(
        "what JSON and Postgres cannot hold",
        more=[
            new("bytes", "bytes", CENTS),
            new("nul", "string", text("a\\\0b")),
            new("looks", "string", text("~long:1")),
            new("nan", "double", b"\0\0\0\0\0\0\xf8\x7f"),
            new("inf", "float", b"\0\0\x80\xff"),
            new("map", {"type": "map", "values": "long"}, b"\2" + text("~\0") + varint(2**53) + b"\0"),
            new("list", NODE, b"\2\2\4\0"),
            new("kind", {"type": "enum", "name": "K", "symbols": ["A", "B"]}, b"\2"),
            new("at", timed("millis"), varint(5)),
        ],
        extra={
            "bytes": "~bytes:0080",
            "nul": "~text:a\\\\\\000b",
            "looks": "~~long:1",
            "nan": "~double:NaN",
            "inf": "~double:-Infinity",
            "map": {"~text:~\\000": "~long:9007199254740992"},
            "list": {"row": 1, "next": {"row": 2, "next": None}},
            "kind": "B",
            "at": "~timestamp-millis:5",
        },
    ),
    Case(
        "a default of another branch",
        more=[new("channel", ["null", "string"], b"\2" + text("web"), default="till")],
        extra={"channel": "web"},
    ),
    Case("a version that is deleted", more=[new("gone", "int", b"\2")], extra={"gone": 1}, deleted=True),
]
NEIGHBOURS = [Case(f"neighbour {i}", entity) for i in range(3) for entity in Entity]
