"""The picture of docs/warehouse.md, out of a database: `DATABASE_URL=… python docs/star.py` prints it as Mermaid.

A table that is unique by a column and `valid_from` is a dimension; tables with that column are joined to it.
"""

import os

from sqlalchemy import Engine, text

from retail_stream.warehouse import postgres

_COLUMNS = text("""
    SELECT c.relname AS name, a.attname AS attribute, replace(replace(
               format_type(a.atttypid, NULL), 'timestamp with time zone', 'timestamptz'), ' ', '_') AS type,
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))
               AS is_key
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND c.relname <> 'alembic_version'
    ORDER BY c.relname, a.attnum
""")
#: The natural key of a dimension is the column that is unique together with `valid_from`.
_DIMENSIONS = text("""
    SELECT c.relname AS name, k.attname AS key
    FROM pg_class c
    JOIN pg_index i ON i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary AND i.indnatts = 2
    JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = i.indkey[0]
    JOIN pg_attribute f ON f.attrelid = c.oid AND f.attnum = i.indkey[1] AND f.attname = 'valid_from'
    WHERE c.relnamespace = 'public'::regnamespace
    ORDER BY c.relname
""")


def picture(engine: Engine) -> str:
    """The dimensions and the tables that name one of their keys, as an entity relationship diagram."""
    with engine.connect() as connection:
        columns = connection.execute(_COLUMNS).all()
        keys = {d.name: d.key for d in connection.execute(_DIMENSIONS)}
    lines = ["erDiagram"]
    shown = set(keys)
    for dimension, key in keys.items():
        for table in [c.name for c in columns if c.attribute == key and c.name not in keys]:
            has_time = any(c.name == table and c.attribute == "event_time" for c in columns)
            lines.append(f'    {dimension} ||--o{{ {table} : "{"as of event_time" if has_time else key}"')
            shown.add(table)
    for table in dict.fromkeys(c.name for c in columns if c.name in shown):
        lines.append(f"    {table} {{")
        for c in (c for c in columns if c.name == table):
            marks = {"PK": c.is_key, "UK": keys.get(table) == c.attribute}
            marks["FK"] = not marks["UK"] and c.attribute in keys.values()
            mark = ", ".join(name for name, has in marks.items() if has)
            lines.append(f"        {c.type} {c.attribute} {mark}".rstrip())
        lines.append("    }")
    return "\n".join(lines)


if __name__ == "__main__":
    print(picture(postgres.engine(os.environ["DATABASE_URL"])))
