"""Finds what is wrong with each entry of the ledger: SQL, a row per entry.

Columns: those of ``planted`` and ``reached``, ``is_late`` (it is on `sales.late`) and ``awaited`` (the warehouse has
not reached it yet). ``in_topics`` and ``in_warehouse`` are a sentence about what is wrong there, or null.

The clean record of a place is the first that the clean topic has for it, since consumers drop the others. It is
compared with the raw record; where that can no longer be decoded, the clean record is judged alone.
"""

from commands.audit.layouts import holds
from commands.audit.rules import DEFAULTED, UNKNOWN, cleaned
from commands.audit.versions import attributes
from commands.score.warehouse import FACT_AMOUNTS, FACT_NUMBERS
from retail_stream.entities import FIELDS, Entity

REJECTED, KEPT = "rejected", "kept"
_NOT_YET = "the warehouse has not reached it"
# Which sale of a window is missing or counted twice, its count does not say.
_NONE = "its window counts no sale, and it is not on sales.late"
_MANY = "its window counts more sales than were in time for it"


def of_changes(entity: Entity) -> str:
    """A dimension's entries. Reads ``clean_``, ``raw_``, ``dead_``, ``wrong_`` and ``strange_<entity>``."""
    names = attributes(entity)
    emptied = DEFAULTED.get(entity)
    filled = f"c.{emptied} = '{UNKNOWN}'" if emptied else "true"
    defaulted = ", ".join(f"{cleaned(entity, a)} AS {a}" for a in names)
    same = {FIELDS[entity].key: "id", FIELDS[entity].time: "moment", **{a: a for a in names}}
    other = _list({name: f"c.{column} IS DISTINCT FROM r.{column}" for name, column in same.items()})
    # A delete has only its key and its time.
    moved = _list({name: f"c.{column} IS DISTINCT FROM r.{column}" for name, column in list(same.items())[:2]})
    return f"""
        SELECT p.*, g.passed, g.stored, false AS is_late, coalesce(p.offset > g.stored, false) AS awaited,
            CASE
                {_placed("c.offset IS NULL")}
                WHEN (p.fault = 'tombstone' OR r.deleted) AND NOT c.deleted THEN 'its delete became a clean record'
                WHEN c.id IS NULL THEN 'its clean record cannot be read'
                WHEN p.fault <> 'tombstone' AND c.deleted AND NOT coalesce(r.deleted, false)
                    THEN 'its clean record is a delete'
                WHEN r.id IS NOT NULL AND c.deleted AND {moved} <> '' THEN 'its clean record has another ' || {moved}
                WHEN p.expected = 'defaulted' AND NOT coalesce({filled}, false) THEN 'its empty field has no default'
                WHEN r.id IS NOT NULL AND NOT c.deleted AND {other} <> ''
                    THEN 'its clean record has another ' || {other}
            END AS in_topics,
            CASE
                WHEN p.expected = '{REJECTED}' AND x.id IS NOT NULL THEN 'it is a dead letter, and made a version'
                WHEN p.expected = '{REJECTED}' THEN NULL
                WHEN p.offset > g.stored THEN '{_NOT_YET}'
                WHEN w.id IS NOT NULL THEN 'the history of its id is another'
            END AS in_warehouse
        FROM planted p JOIN reached g USING (entity, partition)
        LEFT JOIN ({_first(entity)}) c ON c.partition = p.partition AND c.offset = p.offset
        LEFT JOIN (SELECT DISTINCT partition, "offset" FROM dead_{entity}) d
            ON d.partition = p.partition AND d.offset = p.offset
        LEFT JOIN (SELECT partition, "offset", id, moment, deleted, {defaulted} FROM ({_first(entity, "raw")})) r
            ON r.partition = p.partition AND r.offset = p.offset
        LEFT JOIN wrong_{entity} w ON w.id = p.id
        LEFT JOIN strange_{entity} x ON x.id = r.id AND x.moment = r.moment
        WHERE p.entity = '{entity}'
    """


def of_sales() -> str:
    """Sales' entries. Reads ``clean_``, ``raw_`` and ``dead_sales``, ``facts`` and what windows.py makes."""
    other = _list({name: f"c.{name} IS DISTINCT FROM r.{name}" for name in holds(Entity.SALES)})
    plain = ("event_time", "payment_method", *FACT_NUMBERS)
    in_fact = {name: f"f.{name} IS DISTINCT FROM b.{name}" for name in plain}
    in_fact |= {name: f"f.{name} IS DISTINCT FROM round_even(b.{name} * 100, 0)::BIGINT" for name in FACT_AMOUNTS}
    # A copy may be dropped before the clean topic; then the sale that it repeats stands for it.
    absent = "(c.offset IS NULL AND NOT (p.expected = 'counted_once' AND o.id IS NOT NULL))"
    awaited = "CASE WHEN c.offset IS NULL THEN coalesce(o.awaited, false) ELSE coalesce(p.offset > g.stored, false) END"
    # The facts of a detached month are kept elsewhere.
    archived = """EXISTS (
        FROM archived WHERE first_us <= coalesce(r.event_time, c.event_time)
        AND coalesce(r.event_time, c.event_time) < after_us)"""
    return f"""
        SELECT p.*, g.passed, g.stored, l.offset IS NOT NULL AS is_late, {awaited} AS awaited,
            CASE
                {_placed(absent)}
                WHEN c.offset IS NOT NULL AND c.transaction_id IS NULL THEN 'its clean record cannot be read'
                WHEN c.offset IS NOT NULL AND r.transaction_id IS NOT NULL AND {other} <> ''
                    THEN 'its clean record has another ' || {other}
                WHEN c.offset IS NOT NULL AND p.fault = 'return' AND c.quantity >= 0
                    THEN 'its clean record is not a return'
            END AS in_topics,
            CASE
                -- A good copy of it, such as a replay, may have the fact.
                WHEN p.expected = '{REJECTED}' AND f.facts > 0 AND o.id IS NULL
                    THEN 'it is a dead letter, and has a fact'
                WHEN p.expected = '{REJECTED}' AND w.many
                    THEN 'it is a dead letter, and {_MANY}'
                WHEN p.expected = '{REJECTED}' THEN NULL
                WHEN {awaited} THEN '{_NOT_YET}'
                WHEN s.has_facts AND coalesce(f.facts, 0) = 0 AND NOT {archived} THEN 'it has no fact'
                WHEN s.has_facts AND f.facts > greatest(o.identities, 1) THEN 'it has more than one fact'
                WHEN s.has_facts AND p.fault = 'return' AND f.quantity >= 0 THEN 'its fact is not a return'
                WHEN e.offset IS NOT NULL THEN 'it is on sales.late, and was in time'
                WHEN w.none AND l.offset IS NULL THEN '{_NONE}'
                WHEN w.few THEN 'its window lacks sales that are not on sales.late'
                WHEN w.many AND l.offset IS NOT NULL THEN 'it is on sales.late, and {_MANY}'
                WHEN w.many THEN '{_MANY}'
                WHEN w.unlike AND p.fault = 'return' THEN 'its window does not count it as a return'
                WHEN s.has_facts AND f.facts = 1 AND b.id IS NOT NULL AND {_list(in_fact)} <> ''
                    THEN 'its fact has another ' || {_list(in_fact)}
                WHEN w.other THEN 'its window has other sums'
            END AS in_warehouse
        FROM planted p CROSS JOIN settings s JOIN reached g USING (entity, partition)
        LEFT JOIN ({_first(Entity.SALES)}) c ON c.partition = p.partition AND c.offset = p.offset
        LEFT JOIN (SELECT DISTINCT partition, "offset" FROM dead_sales) d
            ON d.partition = p.partition AND d.offset = p.offset
        LEFT JOIN ({_first(Entity.SALES, "raw")}) r ON r.partition = p.partition AND r.offset = p.offset
        LEFT JOIN late_sales l ON l.partition = p.partition AND l.offset = p.offset
        LEFT JOIN facts f ON f.id = p.id
        LEFT JOIN sold_ids o ON o.id = p.id
        LEFT JOIN (
            SELECT *, transaction_id AS id FROM sold QUALIFY count(*) OVER (PARTITION BY transaction_id) = 1
        ) b ON b.id = p.id
        LEFT JOIN early_sales e ON e.partition = p.partition AND e.offset = p.offset
        LEFT JOIN wrong_sales w ON w.partition = p.partition AND w.offset = p.offset
        WHERE p.entity = '{Entity.SALES}'
    """


def _placed(absent: str) -> str:
    """SQL: branches on where the record is. ``absent``: the condition that it is not in the clean topic."""
    return f"""
        WHEN p.expected = '{REJECTED}' AND c.offset IS NOT NULL THEN 'it is in the clean topic'
        WHEN p.expected = '{REJECTED}' AND d.offset IS NULL THEN 'it is not a dead letter'
        WHEN p.expected = '{REJECTED}' THEN NULL
        WHEN d.offset IS NOT NULL THEN 'it is a dead letter'
        WHEN {absent} THEN 'it is not in the clean topic'
    """


def _first(entity: Entity, layer: str = "clean") -> str:
    """SQL: the first record of each place."""
    return f"""
        SELECT * FROM {layer}_{entity}
        QUALIFY row_number() OVER (PARTITION BY partition, "offset" ORDER BY position) = 1
    """


def _list(conditions: dict[str, str]) -> str:
    """SQL: the names whose condition holds, with commas between."""
    names = ", ".join(f"CASE WHEN {condition} THEN '{name}' END" for name, condition in conditions.items())
    return f"concat_ws(', ', {names})"
