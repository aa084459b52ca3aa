"""The tables and views that `schemas/windows.toml` declares; `retail-stream init` and `rebuild` make them.

`sales_by_window` and `sales_by_product_window` come from the migrations. A further table is like the latter, so each
column exists once in the source. `pipeline.aggregations` holds what was made.
"""

from collections.abc import Mapping

import structlog
from sqlalchemy import Connection, text

from retail_stream.entities import FIELDS
from retail_stream.errors import SettingsError, Unavailable
from services.aggregator.declared import COUNTS, MEASURES, NAME, SHIPPED, Aggregation, Declarations, View

#: What further tables are made like.
_MODEL = "sales_by_product_window"
_TYPES = {"int": "integer", "long": "bigint", "string": "text"}
_log = structlog.get_logger(__name__)


def known(connection: Connection) -> list[str]:
    """The tables of windows that the warehouse has, those that are not declared any more included; no views."""
    return list(
        connection.execute(
            text(
                "SELECT a.relation FROM aggregations a JOIN pg_class c ON c.oid = to_regclass('public.' || a.relation) "
                "WHERE c.relkind = 'r' ORDER BY a.relation"
            )
        ).scalars()
    )


def require(connection: Connection, declarations: Declarations) -> None:
    """Check that every declared table was made.

    Raises:
        Unavailable: one was not.
    """
    made = _made(connection)
    for a in declarations.aggregations:
        if made.get(a.table) != a.text:
            raise Unavailable(
                f"The warehouse has no table {a.table} as {NAME} declares it: `retail-stream init` creates it."
            )


def make(connection: Connection, declarations: Declarations) -> None:
    """Make what is declared and missing, and drop what is not declared any more or is declared otherwise.

    A table that holds rows is not dropped: where its entry is gone, a warning names it.

    Raises:
        SettingsError: the entry of a table that holds rows has changed.
    """
    entries: tuple[Aggregation | View, ...] = (*declarations.aggregations, *declarations.views)
    wanted = {entry.table: entry for entry in entries}
    if _made(connection) == {table: entry.text for table, entry in wanted.items()}:
        return
    # Against an aggregator that writes meanwhile.
    connection.execute(text("SELECT FROM stream_watermark FOR UPDATE"))
    made = _made(connection)
    outdated = {table for table, words in made.items() if table not in wanted or wanted[table].text != words}
    for table in _views_first(connection, outdated):
        _drop(connection, table, is_wanted=table in wanted)
    made = _made(connection)
    for table, entry in wanted.items():
        if table in made:
            continue
        if isinstance(entry, View):
            _make_view(connection, entry)
        elif entry.name not in SHIPPED:
            _make_table(connection, entry)
        connection.execute(
            text("INSERT INTO aggregations VALUES (:table, :words)"), {"table": table, "words": entry.text}
        )
        _log.info("aggregation", table=table, by=entry.text)


def _made(connection: Connection) -> Mapping[str, str]:
    """Relation → the entry that it was made of."""
    rows = connection.execute(text("SELECT relation, declaration FROM aggregations"))
    return {row.relation: row.declaration for row in rows}


def _views_first(connection: Connection, relations: set[str]) -> list[str]:
    rows = connection.execute(
        text(
            "SELECT r FROM unnest(CAST(:names AS text[])) r "
            "LEFT JOIN pg_class c ON c.oid = to_regclass('public.' || r) ORDER BY c.relkind = 'v' DESC, r"
        ),
        {"names": sorted(relations)},
    )
    return list(rows.scalars())


def _drop(connection: Connection, table: str, *, is_wanted: bool) -> None:
    kind = connection.execute(
        text("SELECT relkind::text FROM pg_class WHERE oid = to_regclass('public.' || :table)"), {"table": table}
    ).scalar_one_or_none()
    if kind == "r":
        if connection.execute(text(f"SELECT EXISTS (SELECT FROM public.{table})")).scalar_one():
            if is_wanted:
                raise SettingsError(
                    f"{NAME}: the entry of {table} has changed, and the table holds windows; allowed: the entry as it "
                    "was, or another one with an empty warehouse (`retail-stream rebuild`)."
                )
            _log.warning("table is not declared any more", table=table, why="`retail-stream rebuild` removes it")
            return
        connection.execute(text(f"DROP TABLE public.{table}"))
    elif kind == "v":
        connection.execute(text(f"DROP VIEW public.{table}"))
    connection.execute(text("DELETE FROM aggregations WHERE relation = :table"), {"table": table})


def _make_table(connection: Connection, entry: Aggregation) -> None:
    table, column = entry.table, entry.by
    each = f"session, which ends {entry.session} after its last sale" if entry.session else "window"
    unmeasured = [m for m in reversed(MEASURES) if m not in entry.measures]
    for statement in (
        f"CREATE TABLE public.{table} (LIKE {_MODEL} INCLUDING GENERATED INCLUDING COMMENTS INCLUDING CONSTRAINTS) "
        "WITH (fillfactor = 70)",
        f"ALTER TABLE public.{table} RENAME CONSTRAINT {_MODEL}_state_check TO {table}_state_check",
        *(f"ALTER TABLE public.{table} DROP COLUMN {m}" for m in unmeasured),
        *([] if column == "product_id" else [f"ALTER TABLE public.{table} RENAME COLUMN product_id TO {column}"]),
        *([] if entry.holds == "int" else [f"ALTER TABLE public.{table} ALTER {column} TYPE {_TYPES[entry.holds]}"]),
        f"ALTER TABLE public.{table} ADD PRIMARY KEY (window_size, window_start, {column})",
        *(
            f"CREATE INDEX {table}_{state} ON public.{table} (window_end) WHERE state = '{state}'"
            for state in ("open", "fired")
        ),
        f"COMMENT ON TABLE public.{table} IS 'sums of the sales by {column} in each {each}; declared in {NAME}'",
        *(_of_sessions(entry) if entry.session else []),
        _comment(f"public.{table}.{column}", _column_comment(connection, "fact_sales", column)),
    ):
        connection.execute(text(statement))


def _of_sessions(entry: Aggregation) -> list[str]:
    """What the table of sessions has otherwise: an index by which a sale finds its sessions, and comments."""
    table = f"public.{entry.table}"
    return [
        f"CREATE INDEX {entry.table}_end ON {table} ({entry.by}, window_end)",
        _comment(f"{table}.window_size", "the gap: sales at most this far apart are in one session"),
        _comment(f"{table}.window_start", "the time of the first sale"),
        _comment(f"{table}.window_end", "the time of the last sale and the gap"),
        _comment(f"{table}.revision", "how many results of the session were published before its next or newest one"),
    ]


def _make_view(connection: Connection, view: View) -> None:
    dimension, key = f"dim_{view.entity}", FIELDS[view.entity].key
    attribute, base = f'"{view.attribute}"', view.base
    names = [m for m in MEASURES if m in base.measures]
    sums = [f"sum(w.{m})::bigint AS {m}" if m in COUNTS else f"sum(w.{m}) AS {m}" for m in names]
    versions = f"FROM {dimension} v WHERE v.{key} = w.{key}"
    # As sales_by_category_window: each version is found by one step into an index.
    connection.execute(
        text(f"""
            CREATE VIEW public.{view.table} AS
            SELECT w.window_size, w.window_start, w.window_end, p.{attribute}, {", ".join(sums)}
            FROM public.{base.table} w
            CROSS JOIN LATERAL (
                SELECT coalesce(
                    (SELECT CASE WHEN v.valid_to > w.window_start OR v.valid_to IS NULL THEN v.{attribute} END
                     {versions} AND v.valid_from <= w.window_start ORDER BY v.valid_from DESC LIMIT 1),
                    (SELECT v.{attribute} {versions} ORDER BY v.valid_from LIMIT 1),
                    'Unknown') AS {attribute}
            ) p
            GROUP BY w.window_size, w.window_start, w.window_end, p.{attribute}
        """)
    )
    words = (
        f"{base.table} by the {view.attribute} of the version in {dimension} that is valid at window_start; else of "
        f"its first version, else Unknown; declared in {NAME}"
    )
    connection.execute(text(f"COMMENT ON VIEW public.{view.table} IS '{words}'"))
    shown = {c: (base.table, c) for c in ("window_size", "window_start", "window_end", *names)}
    for column, (table, name) in {**shown, view.attribute: (dimension, view.attribute)}.items():
        connection.execute(text(_comment(f'public.{view.table}."{column}"', _column_comment(connection, table, name))))


def _column_comment(connection: Connection, table: str, column: str) -> str:
    found = connection.execute(
        text(
            "SELECT col_description(attrelid, attnum) FROM pg_attribute "
            "WHERE attrelid = to_regclass(:table) AND attname = :column"
        ),
        {"table": table, "column": column},
    ).scalar_one()
    return str(found or "")


def _comment(column: str, words: str) -> str:
    quoted = words.replace("'", "''").replace(":", "\\:")
    return f"COMMENT ON COLUMN {column} IS '{quoted}'"
