"""The same tables from two sides, as text: as services made them, and as `verify` recomputed them in DuckDB."""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
from sqlalchemy import text

from commands.audit.engine import Engine
from retail_stream.dead_letters import Header
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.kafka.headers import SOURCE_OFFSET
from retail_stream.kafka.reading import read_to_end
from retail_stream.settings import Connections
from retail_stream.topics import clean, dlq, topic
from retail_stream.warehouse import postgres
from tests.golden.cases import NUMBER, Case
from tests.golden.published import DAY, Name, Place

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]

#: Table → the entity and column by which its rows belong to a case; those of other tables do by their raw record.
IDS = {
    **{f"dim_{e}": (e, FIELDS[e].key) for e in DIMENSIONS},
    **dict.fromkeys(("fact_sales", "sales_enriched", "sales_by_window"), (Entity.SALES, "store_id")),
    "sales_by_product_window": (Entity.SALES, "product_id"),
}
_RECOMPUTED = {
    "dim_customers": "FROM versions_customers",
    "dim_products": "SELECT * REPLACE (round_even(price * 100, 0)::BIGINT AS price) FROM versions_products",
    "dim_stores": "FROM versions_stores",
    "fact_sales": "FROM facts",
    "sales_by_window": "FROM windows_store",
    "sales_by_product_window": "FROM windows_product",
    "late_sales": """
        SELECT partition, source_offset AS "offset", watermark, string_split(window_sizes, ',') AS window_sizes,
               string_split(window_starts, ',') AS window_starts, string_split(late_by, ',') AS late_by
        FROM expected_late_results
    """,
    **{
        f"{e}.clean": f'SELECT r.* FROM raw_{e} r JOIN places_{e} p USING (partition, "offset") WHERE p.good'
        for e in Entity
    },
    **{f"{e}.dlq": f"SELECT partition, \"offset\", broken AS rules FROM places_{e} WHERE broken <> ''" for e in Entity},
}
_TIMES = ("event_time", "last_update_time", "valid_from", "valid_to", "window_start", "window_end", "watermark")
_SPANS = ("window_size", "late_by")
_MONEY = (
    *("price", "total_amount", "discount_applied", "tax_amount"),
    *("gross_sales", "returns_amount", "discounts", "taxes", "net_sales"),
)


def of_services(connections: Connections) -> Rows:
    """The tables of the warehouse, the clean records and the dead letters."""
    rows: dict[str, Sequence[Row]] = {}
    engine = postgres.engine(connections.database_url)
    with engine.connect() as connection:
        for name in (*IDS, "late_sales"):
            rows[name] = [dict(r) for r in connection.execute(text(f"SELECT * FROM {name}")).mappings()]
    engine.dispose()
    rows["late_sales"] = [
        {**r, "partition": r["source_partition"], "offset": r["source_offset"]} for r in rows["late_sales"]
    ]
    for entity in Entity:
        schema = fastavro.parse_schema(topic(clean(entity)).schema())
        records = [(m, dict(m.headers() or ())) for m in read_to_end(connections, clean(entity))]
        rows[f"{entity}.clean"] = [
            {"partition": m.partition(), "offset": int.from_bytes(h[SOURCE_OFFSET], "big"), **_read(m.value(), schema)}
            for m, h in records
            if m.value() is not None
        ]
        letters = [(m, dict(m.headers() or ())) for m in read_to_end(connections, dlq(entity))]
        rows[f"{entity}.dlq"] = [
            {"partition": m.partition(), "offset": int(h[Header.OFFSET]), "rules": _sorted(h[Header.RULES])}
            for m, h in letters
        ]
    return rows


def _sorted(rules: bytes) -> str:
    return ",".join(sorted(rules.decode().split(",")))


def _read(value: bytes, schema: Any) -> dict[str, Any]:
    # Fields beyond ours stand behind them, and are not read.
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)  # type: ignore[return-value]


def of_verify(engine: Engine) -> Rows:
    """The same tables as `verify` has recomputed them, all but the view ``sales_enriched``."""
    rows = {}
    for name, query in _RECOMPUTED.items():
        result = engine.execute(query)
        columns = [column[0] for column in result.description or ()]
        rows[name] = [dict(zip(columns, row, strict=True)) for row in result.fetchall()]
    return rows


def differences(cases: Iterable[Case], places: Mapping[Name, Place], rows: Rows) -> dict[str, tuple[object, object]]:
    """Case and table → (expected rows, rows that are there), where they differ; of the tables in ``rows``."""
    found: dict[str, tuple[object, object]] = {}
    names = {place: name for name, place in places.items()}
    for case in cases:
        for name, table in case.expected.items():
            if name not in rows:
                continue
            there = _of(case, name, rows[name], names)
            expected = sorted(tuple(map(_plain, row)) for row in table.rows)
            actual = sorted(tuple(shown(c, r[c]) for c in table.columns) for r in there)
            if expected != actual:
                found[f"{case.name}: {name}"] = (expected, actual)
    return found


def _of(case: Case, table: str, rows: Sequence[Row], names: Mapping[Place, Name]) -> list[Row]:
    if table in IDS:
        entity, key = IDS[table]
        return [r for r in rows if str(r[key]) in case.ids(entity, key)]
    named = [(names[_entity(table), r["partition"], r["offset"]], r) for r in rows]
    return [{**r, NUMBER: number} for (of, _, number), r in named if of == case.name]


def _entity(name: str) -> Entity:
    return Entity.SALES if name == "late_sales" else Entity(name.partition(".")[0])


def _plain(cell: str) -> str:
    return json.loads(cell) if cell.startswith('"') else cell


def shown(column: str, value: Any) -> str:
    """A value of either side as a case has it. DuckDB has times and spans in microseconds, and money in cents."""
    kinds: Mapping[Sequence[str], Callable[[int], Any]] = {
        _TIMES: lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us),
        _SPANS: lambda us: timedelta(microseconds=us),
        _MONEY: lambda cents: Decimal(cents) / 100,
    }
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return ", ".join(shown(column.removesuffix("s"), v) for v in value)
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None).isoformat().removeprefix(f"{DAY}T")
        case timedelta():
            minutes, seconds = divmod(value.total_seconds(), 60)
            return f"{value.total_seconds():g}s" if column == "late_by" or seconds else f"{minutes:g}m"
        case Decimal():
            return f"{value:.2f}"
        case dict():
            return json.dumps(value)
        case _ if column in ("extra",):
            return json.dumps(json.loads(value))
    for columns, convert in kinds.items():
        if column in columns and (isinstance(value, int) or str(value).lstrip("-").isdigit()):
            return shown(column, convert(int(value)))
    return str(value)
