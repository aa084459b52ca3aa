"""Checks the tables that repeat topics as rows: `window_revisions` and `dead_letters`."""

from commands.audit.engine import Engine, count
from commands.audit.layouts import Holds, holds
from commands.verify.compare import Column, Format, check, columns
from commands.verify.report import Check
from commands.verify.windows import MEASURES
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, FIELDS, Entity

REVISIONS = "window_revisions"
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
#: What stands for U+0000, which Postgres does not hold.
_REPLACED = "replace({}, chr(0), chr(65533))"
#: SQL between the texts of two fields.
_BETWEEN = " || '|' || "


def stored_revision_check(engine: Engine) -> Check:
    """The line of ``window_revisions``: a row for each result of `sales.windows` but the final ones.

    Reads ``first_window_results``. The topic may have newer results than the snapshot of the warehouse.
    """
    keys = (
        Column("kind"),
        Column("window_size", Format.DURATION),
        Column("window_start", Format.TIME),
        *columns("id", "revision"),
    )
    same = " AND ".join(f"w.{k.name} = r.{k.name}" for k in keys)
    wanted = f"""
        SELECT r.* FROM (
            SELECT * REPLACE (id::VARCHAR AS id), updated_at AS published_at FROM first_window_results
            WHERE state IN ('fired', 'merged')
        ) r LEFT JOIN {REVISIONS} w ON {same}
        WHERE w.kind IS NOT NULL
           OR (r.early AND r.published_at >= coalesce((SELECT max(since) FROM revisions_since), r.published_at))
    """
    values = (Column("window_end", Format.TIME), *MEASURES, Column("published_at", Format.TIME))
    return check(engine, REVISIONS, wanted, REVISIONS, keys, values)


def dead_letter_check(engine: Engine) -> Check:
    """The line of ``dead_letters``: each letter up to the last loaded one of its partition, with the raw record.

    Letters that Kafka has deleted since are not compared, those of forgotten ids not expected.
    """
    names = 'entity, partition, "offset", published_at, source_partition, source_offset, rules, rules_version, message'
    names += ", key, value"
    wanted = " UNION ALL ".join(f"SELECT {names} FROM ({_wanted(e)})" for e in Entity)
    there = " UNION ALL ".join(
        f"""
        SELECT d.* REPLACE (
            array_to_string(list_sort(string_split(rules, ',')), ',') AS rules, {_found(e)} AS value)
        FROM dead_letters d
        LEFT JOIN (SELECT partition, min("offset") AS first FROM dead_{e} GROUP BY partition) k USING (partition)
        LEFT JOIN letters_begin b ON b.topic = '{topics.dlq(e)}' AND b.partition = d.partition
        WHERE entity = '{e}' AND d.offset >= coalesce(k.first, b.first, 0)
        """
        for e in Entity
    )
    known = ", ".join(f"'{e}'" for e in Entity)
    there += f" UNION ALL SELECT * FROM dead_letters WHERE entity NOT IN ({known})"
    keys = columns("entity", "partition", "offset")
    values = (Column("published_at", Format.TIME), *columns("source_partition", "source_offset", "rules"))
    values += columns("rules_version", "message", "key", "value")
    letters = sum(count(engine, f"dead_{e}") for e in Entity)
    loaded = count(engine, "dead_letters")
    note = "" if loaded >= letters else f"of {letters:,} letters; retail-stream dlq load adds the others"
    return check(engine, "dead_letters", wanted, there, keys, values, note)


def _wanted(entity: Entity) -> str:
    known = (
        f"d.source_topic = '{topics.raw(entity)}' AND d.source_partition IS NOT NULL AND d.source_offset IS NOT NULL"
    )
    fields = _BETWEEN.join(_shown(entity, f, f"r.{f}") for f in holds(entity))
    key = f"coalesce({_REPLACED.format('try(decode(d.key))')}, '\\x' || lower(hex(d.key)))"
    forgotten = ""
    if entity in DIMENSIONS:
        forgotten = f"""
            ANTI JOIN forgotten f ON f.entity = '{entity}' AND (d.ts < f.before OR d.ts > {_LAST})
                AND (f.id::VARCHAR = {key} OR (r.decoded AND f.id = r.{FIELDS[entity].key}))
        """
    return f"""
        SELECT '{entity}' AS entity, d.partition, d.offset,
               CASE WHEN d.ts BETWEEN {_FIRST} AND {_LAST} THEN d.ts END AS published_at,
               CASE WHEN {known} THEN d.source_partition END AS source_partition,
               CASE WHEN {known} THEN d.source_offset END AS source_offset,
               coalesce({_REPLACED.format("d.rules")}, 'unknown') AS rules, d.rules_version,
               {_REPLACED.format("d.message")} AS message, {key} AS key,
               CASE WHEN r.decoded AND d.body IS NOT NULL THEN {fields} END AS value
        FROM (
            SELECT l.* FROM dead_{entity} l JOIN (
                SELECT partition, max("offset") AS last FROM dead_letters WHERE entity = '{entity}' GROUP BY partition
            ) m ON m.partition = l.partition AND l.offset <= m.last
        ) d
        LEFT JOIN raw_{entity} r ON {known} AND r.partition = d.source_partition AND r.offset = d.source_offset
        {forgotten}
    """


def _found(entity: Entity) -> str:
    """SQL: the fields of a loaded ``value`` in the words of :func:`_shown`; null for none."""
    parts = []
    for field, held in holds(entity).items():
        text = f"(value::JSON->>'{field}')"
        if held is Holds.TIME:
            text = f"coalesce(epoch_us(TRY_CAST({text} AS TIMESTAMP)), TRY_CAST({text} AS BIGINT))"
        elif held is Holds.AMOUNT:
            text = f"TRY_CAST({text} AS DOUBLE)"
        elif held is Holds.OTHER:
            text = f"TRY_CAST({text} AS BIGINT)"
        parts.append(_shown(entity, field, text))
    return f"CASE WHEN value IS NOT NULL THEN {_BETWEEN.join(parts)} END"


def _shown(entity: Entity, field: str, value: str) -> str:
    """SQL: a field as text; a number is the same for -0.0 and 0."""
    match holds(entity)[field]:
        case Holds.TEXT:
            text = _REPLACED.format(value)
        case Holds.AMOUNT:
            text = f"({value} + 0.0)::VARCHAR"
        case _:
            text = f"{value}::VARCHAR"
    return f"coalesce({text}, 'nothing')"
