"""Checks what the database itself refuses by: triggers, unique indexes and conditions; and the id of the warehouse."""

from collections.abc import Iterable

from commands.audit.engine import Engine, count
from commands.verify.compare import check, columns, listed
from commands.verify.report import Check
from retail_stream.entities import DIMENSIONS

#: The query of ``guards``: (relation, name) of every trigger that is on, index that is valid and condition.
GUARDS = """
    SELECT c.relname::text AS relation, g.name::text AS name FROM (
        SELECT tgrelid AS relation, tgname AS name FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'
        UNION ALL
        SELECT i.indrelid, n.relname FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid
        WHERE i.indisunique AND i.indisvalid
        UNION ALL
        SELECT conrelid, conname FROM pg_constraint WHERE contype = 'c' AND convalidated
    ) g JOIN pg_class c ON c.oid = g.relation JOIN pg_namespace s ON s.oid = c.relnamespace
    WHERE s.nspname = ANY (current_schemas(false))
"""
_OF_DIMENSION = (
    "one_writer",
    "no_overlap_inserted",
    "no_overlap_updated",
    "{table}_one_open",
    "{table}_not_empty",
    "{table}_pkey",
)
#: Tables whose key keeps a result from being stored twice.
_KEYED = (
    "consumer_positions",
    "fact_sales",
    "partition_watermarks",
    "replays",
    "stored_settings",
    "stream_watermark",
)


def guard_check(engine: Engine, windows: Iterable[str]) -> Check:
    """The line of `triggers and keys`: each guard of the contract is there, and is on; ``windows``: their tables."""
    guards = [(f"dim_{e}", name.format(table=f"dim_{e}")) for e in DIMENSIONS for name in _OF_DIMENSION]
    guards += [(table, f"{table}_pkey") for table in (*_KEYED, *windows, *(f"{e}_changes" for e in DIMENSIONS))]
    wanted = "SELECT * FROM (VALUES {}) AS w(relation, name)".format(", ".join(map(str, guards)))
    there = f"SELECT DISTINCT g.* FROM guards g JOIN ({wanted}) USING (relation, name)"
    return check(engine, "triggers and keys", wanted, there, columns("relation", "name"), ())


def id_check(engine: Engine) -> Check:
    """The line of ``warehouse_id``: one row. What the warehouse publishes names its id."""
    there = count(engine, "warehouse_id")
    ids = listed(engine, f"SELECT 'the id ' || id || ' is one of {there}' FROM warehouse_id") if there > 1 else None
    return Check("warehouse_id", 1, there, abs(there - 1), ids.examples if ids else ())
