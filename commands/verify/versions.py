"""Checks every version of every dimension against the changes that the raw topics hold."""

from commands.audit.engine import Engine
from commands.audit.layouts import Holds, holds, named
from commands.audit.rules import stored
from commands.audit.versions import attributes
from commands.verify.compare import Column, Format, check, columns
from commands.verify.report import Check
from retail_stream.entities import FIELDS, Entity
from retail_stream.topics import Group, clean

#: How many ids ``<entity>_as_of`` is called with.
AS_OF_IDS = 100
_FORMATS = {Holds.TIME: Format.TIME, Holds.AMOUNT: Format.CENTS}


def consumed(entity: Entity, group: Group) -> str:
    """SQL: the good raw records that a consumer group has passed, with the columns of ``raw_<entity>``.

    The group has passed a record when the record's offset is not above the largest ``source.offset`` before the group's
    position (table ``positions``). Only the first record of a partition with one ``replay.of`` counts.
    """
    return f"""
        SELECT * FROM (
            SELECT r.*, row_number() OVER (
                PARTITION BY r.partition, r.replay_of, CASE WHEN r.replay_of IS NULL THEN r.offset END
                ORDER BY r.offset) AS nth
            FROM raw_{entity} r
            JOIN places_{entity} p ON p.partition = r.partition AND p.offset = r.offset AND p.good
            JOIN ({passed(entity, group)}) b ON b.partition = r.partition AND r.offset <= b.source_offset
        ) WHERE nth = 1
    """


def passed(entity: Entity, group: Group) -> str:
    """SQL: partition → the largest ``source.offset`` before the group's position in the clean topic, -1 for none."""
    return f"""
        SELECT p.partition, coalesce(max(f.source_offset), -1) AS source_offset
        FROM positions p
        LEFT JOIN first_{entity} f ON f.partition = p.partition AND f.offset < p.next_offset
        WHERE p.consumer_group = '{group}' AND p.topic = '{clean(entity)}'
        GROUP BY p.partition
    """


def changes(entity: Entity) -> str:
    """SQL: the changes that the merger has passed: ``id``, ``moment``, ``deleted``, the attributes and ``extra``."""
    key, time = FIELDS[entity].key, FIELDS[entity].time
    return f"""
        SELECT CASE WHEN decoded THEN {key} ELSE key_text::BIGINT END AS id,
               CASE WHEN decoded THEN {time} ELSE coalesce(sequence, ts) END AS moment,
               NOT decoded AS deleted, {", ".join(f"{stored(entity, a)} AS {a}" for a in attributes(entity))}, extra
        FROM ({consumed(entity, Group.SCD_MERGER)})
    """


def version_check(engine: Engine, entity: Entity) -> Check:
    """The line of ``dim_<entity>``: ``versions_<entity>`` and the loaded table, money in cents."""
    key = FIELDS[entity].key
    wanted = f"versions_{entity}"
    if amounts := named(entity, Holds.AMOUNT):
        cents = ", ".join(f"round_even({a} * 100, 0)::BIGINT AS {a}" for a in amounts)
        wanted = f"SELECT * REPLACE ({cents}) FROM {wanted}"
    keys = [Column(key), Column("valid_from", Format.TIME)]
    return check(engine, f"dim_{entity}", wanted, f"dim_{entity}", keys, _values(entity))


def current_check(engine: Engine, entity: Entity) -> Check:
    """The line of ``<entity>_current``: the loaded versions of ``dim_<entity>`` that have no end, all columns."""
    wanted = f"SELECT * FROM dim_{entity} WHERE valid_to IS NULL"
    values = [Column(FIELDS[entity].key), Column("valid_from", Format.TIME), *_values(entity)]
    return check(engine, f"{entity}_current", wanted, f"{entity}_current", columns("sk"), values)


def as_of_check(engine: Engine, entity: Entity) -> Check:
    """The line of ``<entity>_as_of``: the versions of all ids at one moment, and of some ids by the second argument.

    Reads the loaded ``dim_<entity>``. ``by_key``: the function was called with the id.
    """
    key, name = FIELDS[entity].key, f"{entity}_as_of"
    then = f"(SELECT moment FROM {name}_moment)"
    valid = f"valid_from <= {then} AND coalesce(valid_to > {then}, true)"
    some = f"(SELECT DISTINCT {key} FROM dim_{entity} ORDER BY 1 LIMIT {AS_OF_IDS})"
    wanted = f"""
        SELECT false AS by_key, * FROM dim_{entity} WHERE {valid}
        UNION ALL SELECT true, * FROM dim_{entity} WHERE {valid} AND {key} IN {some}
    """
    values = [Column(key), Column("valid_from", Format.TIME), *_values(entity)]
    return check(engine, name, wanted, name, columns("by_key", "sk"), values)


def _values(entity: Entity) -> list[Column]:
    values = [Column(a, _FORMATS.get(holds(entity)[a], Format.PLAIN)) for a in attributes(entity)]
    return [*values, *columns(FIELDS[entity].time, "valid_to", format=Format.TIME), Column("is_current")]
