"""Check 2: every version of every dimension, from the changes that the raw topics hold."""

from commands.audit.engine import Engine
from commands.audit.layouts import Holds, holds, named
from commands.verify.compare import Column, Kind, check, columns
from commands.verify.report import Check
from commands.verify.tables import fields
from retail_stream.entities import FIELDS, Entity
from retail_stream.topics import Group, clean

_COLUMNS = {Holds.TIME: Kind.TIME, Holds.AMOUNT: Kind.CENTS}


def seen(entity: Entity, group: Group) -> str:
    """SQL: the good raw records that a consumer of the clean topic has behind it, as columns of ``raw_<entity>``.

    A record counts when its offset is not above the largest ``source.offset`` before the consumer's position (table
    ``positions``); of two of a partition with one ``replay.of`` the second does not.
    """
    return f"""
        SELECT * FROM (
            SELECT r.*, row_number() OVER (
                PARTITION BY r.partition, r.replay_of, CASE WHEN r.replay_of IS NULL THEN r.offset END
                ORDER BY r.offset) AS nth
            FROM raw_{entity} r
            JOIN places_{entity} p ON p.partition = r.partition AND p.offset = r.offset AND p.good
            JOIN ({behind(entity, group)}) b ON b.partition = r.partition AND r.offset <= b.source_offset
        ) WHERE nth = 1
    """


def behind(entity: Entity, group: Group) -> str:
    """SQL: partition → the largest ``source.offset`` before the consumer's position in the clean topic, else -1."""
    return f"""
        SELECT p.partition, coalesce(max(f.source_offset), -1) AS source_offset
        FROM positions p
        LEFT JOIN first_{entity} f ON f.partition = p.partition AND f.offset < p.next_offset
        WHERE p.consumer_group = '{group}' AND p.topic = '{clean(entity)}'
        GROUP BY p.partition
    """


def changes(entity: Entity) -> str:
    """SQL: the changes that the merger has behind it: ``id``, ``moment``, ``deleted`` and the entity's fields."""
    key, time = FIELDS[entity].key, FIELDS[entity].time
    return f"""
        SELECT CASE WHEN decoded THEN {key} ELSE key_text::BIGINT END AS id,
               CASE WHEN decoded THEN {time} ELSE coalesce(sequence, ts) END AS moment,
               NOT decoded AS deleted, {", ".join(attributes(entity))}
        FROM ({seen(entity, Group.SCD_MERGER)})
    """


def attributes(entity: Entity) -> tuple[str, ...]:
    """All fields but the key and the time, in schema order."""
    return tuple(f for f in fields(entity) if f not in (FIELDS[entity].key, FIELDS[entity].time))


def surrogate(entity: Entity) -> str:
    """The surrogate key's column."""
    return f"{FIELDS[entity].key.removesuffix('_id')}_sk"


def untracked(entity: Entity) -> tuple[str, ...]:
    """Fields that make no new version: each version has those of its last change."""
    on, but = FIELDS[entity].history_on, FIELDS[entity].history_except
    return tuple(a for a in attributes(entity) if a in but or (on and a not in on))


def expected(engine: Engine, entity: Entity, source: str) -> None:
    """Make ``versions_<entity>`` of ``source`` (SQL as of :func:`changes`): key, attributes, ``last_update_time``,
    ``valid_from``, ``valid_to`` (null = open) and ``is_current``, times in microseconds.
    """
    names = attributes(entity)
    larger = ", ".join(f"{a} DESC NULLS LAST" for a in names)
    tracked = [a for a in names if a not in untracked(entity)]
    same = " AND ".join(f"{a} IS NOT DISTINCT FROM lag({a}) OVER history" for a in ("deleted", *tracked))
    last = ", ".join(f"last_value({a}) OVER stretch AS {a}" for a in untracked(entity))
    replaced = f"REPLACE ({last})" if last else ""
    engine.execute(f"""
        CREATE OR REPLACE TABLE versions_{entity} AS
        WITH changes AS ({source}),
        winners AS (
            SELECT * FROM changes
            QUALIFY row_number() OVER (PARTITION BY id, moment ORDER BY deleted DESC, {larger}) = 1
        ),
        marked AS (
            SELECT *, NOT ({same}) AS turn FROM winners WINDOW history AS (PARTITION BY id ORDER BY moment)
        ),
        numbered AS (
            SELECT *, sum(turn::INT) OVER (PARTITION BY id ORDER BY moment) AS nth FROM marked
        ),
        valued AS (
            SELECT * {replaced} FROM numbered
            WINDOW stretch AS (
                PARTITION BY id, nth ORDER BY moment ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            )
        ),
        spans AS (
            SELECT *, lead(moment) OVER (PARTITION BY id ORDER BY moment) AS until FROM valued WHERE turn
        )
        SELECT id AS {FIELDS[entity].key}, {", ".join(names)}, moment AS {FIELDS[entity].time},
               moment AS valid_from, until AS valid_to, until IS NULL AS is_current
        FROM spans WHERE NOT deleted
    """)


def version_check(engine: Engine, entity: Entity) -> Check:
    """The line of ``dim_<entity>``: ``versions_<entity>`` beside the loaded table, prices in cents."""
    key, time = FIELDS[entity].key, FIELDS[entity].time
    found = f"dim_{entity}"
    wanted = f"versions_{entity}"
    if amounts := named(entity, Holds.AMOUNT):
        cents = ", ".join(f"round_even({a} * 100, 0)::BIGINT AS {a}" for a in amounts)
        wanted = f"SELECT * REPLACE ({cents}) FROM {wanted}"
    values = [Column(a, _COLUMNS.get(holds(entity)[a], Kind.PLAIN)) for a in attributes(entity)]
    values += [*columns(time, "valid_to", kind=Kind.TIME), Column("is_current")]
    keys = [Column(key), Column("valid_from", Kind.TIME)]
    return check(engine, f"dim_{entity}", wanted, found, keys, values)
