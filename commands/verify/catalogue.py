"""Checks what the database keeps of the tables themselves against `migrations/catalogue.json`.

That file holds the tables, views and functions as `init` makes them: columns, constraints, indexes, triggers,
functions, comments, and what the reading role may read. Other objects are not compared, but for triggers on these
tables.
``python -m commands.verify.catalogue`` prints the file anew from the database of DATABASE_URL.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache

from commands.audit.engine import Engine, count
from commands.audit.windows import COUNTS, DECLARED, MONEY, Grouping
from commands.verify.compare import Differences, columns, differences, listed
from commands.verify.report import Check
from commands.verify.shaping import Shaping
from retail_stream.package_data import folder
from retail_stream.warehouse.roles import READER

_FILE = folder("migrations") / "catalogue.json"
_VERSION = "version public.alembic_version"
_GRANT = "grant"
#: The query of ``catalogue``: (object, detail). What views show is compared by other checks.
CATALOGUE = f"""
    WITH relations AS (
        SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relkind, n.nspname AS schema
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'pipeline') AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
    ), functions AS (
        SELECT p.*, n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('public', 'pipeline')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    ), details AS (
        SELECT 'column ' || r.name || '.' || a.attname AS object,
               concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
                         CASE WHEN a.attidentity <> '' THEN 'identity' END,
                         CASE WHEN a.attgenerated <> '' THEN 'generated' END,
                         pg_get_expr(d.adbin, d.adrelid)) AS detail
        FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
        UNION ALL
        SELECT 'constraint ' || r.name || '.' || c.conname,
               pg_get_constraintdef(c.oid) || CASE WHEN c.convalidated THEN '' ELSE ' not validated' END
        FROM relations r JOIN pg_constraint c ON c.conrelid = r.oid AND c.contype IN ('p', 'u', 'c', 'x', 'f')
        UNION ALL
        SELECT 'index ' || r.name || '.' || n.relname,
               pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' not valid' END
        FROM relations r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class n ON n.oid = i.indexrelid
        UNION ALL
        SELECT 'trigger ' || r.name || '.' || t.tgname,
               pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'O' THEN '' ELSE ' enabled ' || t.tgenabled::text END
        FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
        UNION ALL
        SELECT 'function ' || f.name,
               concat_ws(' ', md5(f.prosrc), CASE WHEN f.prosecdef THEN 'as its owner' END, f.proconfig::text)
        FROM functions f
        UNION ALL
        SELECT 'comment ' || r.name, left(md5(obj_description(r.oid, 'pg_class')), 8) FROM relations r
        UNION ALL
        SELECT 'comment ' || r.name || '.' || a.attname, left(md5(col_description(r.oid, a.attnum)), 8)
        FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT 'comment ' || f.name, left(md5(obj_description(f.oid, 'pg_proc')), 8) FROM functions f
        UNION ALL
        SELECT '{_GRANT} ' || r.name, concat_ws(
            ' ', CASE WHEN has_table_privilege(o.oid, r.oid, 'SELECT') THEN 'may be read' ELSE 'may not be read' END,
            CASE WHEN has_table_privilege(o.oid, r.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') THEN 'and written' END)
        FROM relations r JOIN pg_roles o ON o.rolname = '{READER}'
    )
    SELECT object, detail FROM details WHERE detail IS NOT NULL
    UNION ALL SELECT '{_VERSION}', version_num FROM alembic_version
"""


@cache
def declared() -> dict[str, str]:
    """Object → detail, as `init` makes them."""
    read: dict[str, str] = json.loads(_FILE.read_text())
    return read


def catalogue_check(engine: Engine, shaping: Shaping) -> Check:
    """The line of `tables as declared`. Where the server has no reading role, its rights are not compared.

    Tables and views of `schemas/windows.toml` are like those that the file has. A newer version of the tables than the
    file's comes from migrations of others, and is not compared.
    """
    wanted = {o: d for o, d in {**declared(), **_of_windows(shaping)}.items() if o != _VERSION}
    has_role = count(engine, "catalogue", f"object LIKE '{_GRANT} %'") > 0
    if not has_role:
        wanted = {o: d for o, d in wanted.items() if not o.startswith(f"{_GRANT} ")}
    engine.execute("CREATE OR REPLACE TABLE declared (object VARCHAR, detail VARCHAR)")
    engine.executemany("INSERT INTO declared VALUES (?, ?)", [list(pair) for pair in wanted.items()])
    there = "SELECT c.* FROM catalogue c SEMI JOIN declared USING (object)"
    wrong = differences(engine, "declared", there, columns("object"), columns("detail"))
    wrong += _triggers(engine) + _version(engine)
    note = "" if has_role else f"the role {READER} does not exist, so its rights are not compared"
    return Check("tables as declared", len(wanted), count(engine, f"({there})"), wrong.count, wrong.examples, note)


def _of_windows(shaping: Shaping) -> dict[str, str]:
    """Object → detail of further tables and views."""
    wanted: dict[str, str] = {}
    for g in shaping.groupings:
        if not g.is_usual:
            own = _like("sales_by_product_window", g.table, "product_id", g.column, g.measures)
            kind = declared()[f"column public.fact_sales.{g.column}"]
            each = f"session, which ends {g.sizes[0].name} after its last sale" if g.is_session else "window"
            words = f"sums of the sales by {g.column} in each {each}; declared in {DECLARED}"
            of_sales = declared()[f"comment public.fact_sales.{g.column}"]
            wanted |= own | _own(g.table, g.column, kind, words, of_sales) | (_of_sessions(g) if g.is_session else {})
    for v in shaping.views[1:]:
        own = _like("sales_by_category_window", v.name, "category", v.attribute, v.base.measures)
        words = (
            f"{v.base.table} by the {v.attribute} of the version in dim_{v.entity} that is valid at window_start; else "
            f"of its first version, else Unknown; declared in {DECLARED}"
        )
        wanted |= own | _own(
            v.name, v.attribute, "text", words, declared()[f"comment public.dim_{v.entity}.{v.attribute}"]
        )
    return wanted


def _own(relation: str, column: str, kind: str, words: str, of_column: str) -> dict[str, str]:
    return {
        f"column public.{relation}.{column}": kind,
        f"comment public.{relation}": _digest(words),
        f"comment public.{relation}.{column}": of_column,
    }


def _of_sessions(grouping: Grouping) -> dict[str, str]:
    """What a table of sessions has otherwise, or more, than one of windows."""
    table = f"public.{grouping.table}"
    words = {
        "window_size": "the gap: sales at most this far apart are in one session",
        "window_start": "the time of the first sale",
        "window_end": "the time of the last sale and the gap",
        "revision": "how many results of the session were published before its next or newest one",
    }
    index = f"CREATE INDEX {grouping.table}_end ON {table} USING btree ({grouping.column}, window_end)"
    return {
        f"index {table}.{grouping.table}_end": index,
        **{f"comment {table}.{column}": _digest(text) for column, text in words.items()},
    }


def _digest(words: str) -> str:
    return hashlib.md5(words.encode(), usedforsecurity=False).hexdigest()[:8]


def _like(model: str, relation: str, model_column: str, column: str, measures: Sequence[str]) -> dict[str, str]:
    """What is declared of a relation, for another one with another key and some of its measures."""
    left_out = [m for m in (*COUNTS, *MONEY) if m not in measures]
    names = re.compile(rf"\b({model}(?=\b|_)|{model_column}\b)")
    return {
        names.sub(lambda m: relation if m[0] == model else column, o): names.sub(
            lambda m: relation if m[0] == model else column, d
        )
        for o, d in declared().items()
        if f" public.{model}" in o and not any(o.endswith(f".{m}") for m in left_out)
    }


def _triggers(engine: Engine) -> Differences:
    """Undeclared triggers on tables that are declared."""
    return listed(
        engine,
        """
        SELECT 'object ''' || object || ''': should not be there' FROM (
            SELECT object, regexp_extract(object, '^trigger ([^.]+[.][^.]+)[.]', 1) AS name
            FROM catalogue c ANTI JOIN declared USING (object) WHERE object LIKE 'trigger %'
        ) WHERE 'comment ' || name IN (SELECT object FROM declared)
        """,
    )


def _version(engine: Engine) -> Differences:
    known = declared()[_VERSION]
    return listed(
        engine,
        f"""
        SELECT 'version of the tables expected {known}, found ' || coalesce(max(detail), 'nothing')
        FROM catalogue WHERE object = '{_VERSION}'
        HAVING count(*) <> 1 OR NOT regexp_full_match(max(detail), '[0-9]{{4}}') OR max(detail) < '{known}'
        """,
    )


if __name__ == "__main__":
    import os

    from sqlalchemy import text

    from retail_stream.warehouse import postgres

    with postgres.engine(os.environ["DATABASE_URL"]).connect() as connection:
        rows = {r.object: r.detail for r in connection.execute(text(CATALOGUE.replace(":", "\\:")))}
    print(json.dumps(dict(sorted(rows.items())), indent=0))
