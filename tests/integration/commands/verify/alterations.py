"""SQL that alters or drops each object of `migrations/catalogue.json`."""

from sqlalchemy import Connection, text

from retail_stream.warehouse.roles import READER


def altering(connection: Connection, thing: str) -> str | None:
    """SQL that alters or drops an object of the catalogue; None where another one went with it."""
    kind, _, name = thing.partition(" ")
    relation, _, part = name.rpartition(".")
    match kind:
        case "trigger":
            return f"ALTER TABLE {relation} DISABLE TRIGGER {part}"
        case "constraint":
            return f"ALTER TABLE {relation} DROP CONSTRAINT {part}"
        case "index":
            return f"DROP INDEX IF EXISTS {relation.partition('.')[0]}.{part}"
        case "function":
            query = "SELECT pg_get_functiondef(p.oid) FROM pg_proc p"
            query += " WHERE p.pronamespace::regnamespace || '.' || p.proname = split_part(:name, '(', 1)"
            definition = connection.execute(text(query), {"name": name}).scalar_one()
            word, other = ("BEGIN", "BEGIN NULL;") if "plpgsql" in definition else ("SELECT", "SELECT ")
            return str(definition).replace(word, other, 1)
        case "comment":
            if "(" in name:
                return f"COMMENT ON FUNCTION {name.partition('(')[0]} IS 'another'"
            if name.count(".") == 2:
                return f"COMMENT ON COLUMN {name} IS 'another'"
            is_view = connection.execute(
                text("SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass(:name)"), {"name": name}
            ).scalar_one()
            return f"COMMENT ON {'VIEW' if is_view else 'TABLE'} {name} IS 'another'"
        case "grant":
            verb, to = ("REVOKE", "FROM") if name.startswith("public.") else ("GRANT", "TO")
            return f"{verb} SELECT ON {name} {to} {READER}"
        case "column":
            row = connection.execute(
                text("""
                    SELECT c.relkind = 'v' OR a.attgenerated <> '' AS skip, a.attidentity <> '' AS is_identity,
                           a.attnotnull, format_type(a.atttypid, a.atttypmod) AS type
                    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                    WHERE a.attrelid = to_regclass(:relation) AND a.attname = :part
                """),
                {"relation": relation, "part": part},
            ).one()
            # Views by the rows that they show; the rest is not altered while others read it.
            if row.skip:
                return None
            column = f'ALTER TABLE {relation} ALTER COLUMN "{part}"'
            if row.is_identity:
                return f"{column} DROP IDENTITY"
            other = f"coalesce(NULL::{row.type}, NULL::{row.type})"
            return f"{column} DROP NOT NULL" if row.attnotnull else f"{column} SET DEFAULT {other}"
    return None
