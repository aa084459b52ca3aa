"""Damages as data: made from the catalogue of the database and from the records of the topics, none twice in one place.

Many damages are made together, each to another row or record, so one run of `verify` names all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from confluent_kafka import Message
from sqlalchemy import Connection, text

from commands.audit import reading

#: Type in Postgres → a changed value; ``{0}`` is the column.
_CHANGED = {
    "text": "{0} || '!'",
    "character varying": "left({0}, 3) || '!'",
    "smallint": "{0} + 1",
    "integer": "{0} + 1000000",
    "bigint": "{0} + 1000000",
    "numeric": "{0} + 0.01",
    "double precision": "{0} + 0.5",
    "boolean": "NOT {0}",
    "timestamp with time zone": "{0} + interval '1 microsecond'",
    "interval": "{0} + interval '1 second'",
    "date": "{0} + 1",
    "bytea": "{0} || '\\x00'",
    "json": "'{{\"a\": 1}}'::json",
    "jsonb": "'{{\"a\": 1}}'::jsonb",
    "regclass": "'pg_class'::regclass",
    "uuid": "gen_random_uuid()",
    "text[]": "{0} || '!'::text",
    "interval[]": "{0} || interval '1 second'",
    "timestamp with time zone[]": "{0} || now()",
}
_NULL = {"integer": "1", "bigint": "1", "boolean": "true", "timestamp with time zone": "now() - interval '1 hour'"}
#: Columns in which the usual change does nothing, or is refused.
_OTHERWISE = {
    ("sales_by_window", "state"): "CASE {0} WHEN 'final' THEN 'fired' ELSE 'final' END",
    ("sales_by_product_window", "state"): "CASE {0} WHEN 'final' THEN 'fired' ELSE 'final' END",
    ("partition_watermarks", "watermark"): "{0} + interval '1 second'",
    ("stream_watermark", "watermark"): "{0} - interval '1 hour'",
    ("consumer_positions", "epoch"): "0",
    ("replays", "replay_of"): "'\\x00'::bytea",
}


class Target(NamedTuple):
    """A column of a table or view; ``kind``: r, p or v as in pg_class."""

    relation: str
    kind: str
    name: str
    type: str

    @property
    def changed(self) -> str:
        """SQL: another value than the column has."""
        usual = _CHANGED[self.type.partition("(")[0] if self.type.startswith(("numeric", "character")) else self.type]
        value = _OTHERWISE.get((self.relation, self.name), usual).format(f'"{self.name}"')
        if self.type in ("json", "jsonb"):
            return value
        base = _NULL.get(self.type, "''" if self.type == "text" else "NULL")
        return f"coalesce({value}, {base})"


def columns(connection: Connection) -> list[Target]:
    """Every column of every table and view of `public` and `pipeline` that a statement may write."""
    rows = connection.execute(
        text("""
            SELECT c.relname, c.relkind::text AS kind, a.attname, format_type(a.atttypid, NULL) AS type
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE n.nspname IN ('public', 'pipeline') AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
              AND a.attidentity = '' AND a.attgenerated = ''
            ORDER BY n.nspname, c.relname, a.attnum
        """)
    )
    return [Target(*row) for row in rows]


def rounds(connection: Connection, targets: Sequence[Target]) -> Iterator[list[tuple[Target, str]]]:
    """Tables' columns with the row to change (its ctid and table), no row twice in a round."""
    waiting = list(targets)
    while waiting:
        now, later, taken = [], [], {}
        for target in waiting:
            if target.relation not in taken:
                query = f"SELECT tableoid::regclass || ' ' || ctid FROM \"{target.relation}\" ORDER BY 1"
                taken[target.relation] = list(connection.execute(text(query)).scalars())
            rows = taken[target.relation]
            if rows:
                now.append((target, rows.pop(len(rows) // 2)))
            else:
                later.append(target)
        if not now:
            return
        yield now
        waiting = later


def change(connection: Connection, target: Target, row: str) -> None:
    """Change one column of one row; the triggers of the table are off."""
    table, _, ctid = row.partition(" ")
    connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
    done = connection.exec_driver_sql(
        f"UPDATE ONLY {table} SET \"{target.name}\" = {target.changed.replace('%', '%%')} WHERE ctid = '{ctid}'"
    )
    assert done.rowcount == 1, target
    connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


def spoil_view(connection: Connection, view: str, targets: Sequence[Target], rows: int) -> None:
    """Replace a view by one that shows column ``i`` changed in row ``i``; a view of few rows, all in the first."""
    schema = "public"
    connection.execute(text(f'ALTER VIEW {schema}."{view}" RENAME TO "{view}_undamaged"'))
    shown = ", ".join(
        f"CASE WHEN row_number() OVER () = {1 + (i if rows >= len(targets) else 0)} THEN {t.changed}"
        f' ELSE "{t.name}" END::{t.type} AS "{t.name}"'
        for i, t in enumerate(targets)
    )
    connection.exec_driver_sql(f'CREATE VIEW {schema}."{view}" AS SELECT {shown} FROM {schema}."{view}_undamaged"')


class Altered:
    """Records of topics that a reader gets changed: place → what it gets instead, none for a record that is gone."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int, int], Message | None] = {}

    def __call__(self, batch: Sequence[Message]) -> list[Message]:
        """The batch as it is read."""
        got = (self.records.get(place(m), m) for m in batch)
        return [m for m in got if m is not None]


@contextmanager
def reading_through(change: Altered) -> Iterator[None]:
    """Within this context, `verify` and `score` read records as ``change`` gives them."""
    read = reading.read_patiently
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "read_patiently", lambda *args: (change(batch) for batch in read(*args)))
        yield


def place(m: Message) -> tuple[str, int, int]:
    """Topic, partition and offset."""
    return str(m.topic()), int(m.partition() or 0), int(m.offset() or 0)


def altered(m: Message, **parts: object) -> Message:
    """A copy of a record with other parts: ``key``, ``value``, ``headers``, ``timestamp`` (type and milliseconds)."""
    own: dict[str, object] = {
        "topic": m.topic(),
        "partition": m.partition(),
        "offset": m.offset(),
        "key": m.key(),
        "value": m.value(),
        "headers": m.headers(),
        "timestamp": m.timestamp(),
    }
    return Message(**{**own, **parts})  # type: ignore[arg-type]


def header_damages(records: Sequence[Message]) -> Iterator[tuple[str, Message, Message | None]]:
    """Damages to records of one topic: (name, record, what is read instead); each to another record."""
    left = list(records)

    def first(having: str | None = None) -> Message | None:
        at = next((i for i, m in enumerate(left) if having is None or having in dict(m.headers() or ())), None)
        return None if at is None else left.pop(at)

    def rarity(name: str) -> tuple[int, str]:
        return sum(name in dict(m.headers() or ()) for m in records), name

    # The rarest first: others may take any record.
    names = sorted({n for m in records for n, _ in m.headers() or ()}, key=rarity)
    for name in names:
        for kind in ("changed", "missing"):
            if (m := first(name)) is not None:
                kept = [(n, (v or b"") + b"!" if n == name else v) for n, v in m.headers() or ()]
                yield (
                    f"header {name} {kind}",
                    m,
                    altered(m, headers=kept if kind == "changed" else [(n, v) for n, v in kept if n != name]),
                )
    parts: Mapping[str, object] = {"key": b"-1", "value": None, "timestamp": (1, 1_000)}
    for part, value in parts.items():
        if (m := first()) is not None:
            yield part, m, altered(m, **{part: value})
    if (m := first()) is not None:
        yield "a header of nonsense", m, altered(m, headers=[*(m.headers() or ()), ("nonsense", b"!")])
    if (m := first()) is not None:
        yield "gone", m, None
