"""Compares the histories of ids in the warehouse with those that their clean changes make, in order of time."""

from commands.audit.engine import Engine
from commands.audit.layouts import Holds, named
from commands.audit.versions import attributes, make_versions
from retail_stream.entities import FIELDS, Entity


def compare_histories(engine: Engine, entity: Entity) -> None:
    """Compare the versions of the ledger's ids in ``dim_<entity>`` with those that ``clean_<entity>`` makes.

    Only clean records that the warehouse has passed count; of a forgotten id, only changes from then on. Makes
    ``wrong_<entity>``: the ids that differ; and ``strange_<entity>``: id and ``moment`` where a version begins that
    should not.
    """
    key, time = FIELDS[entity].key, FIELDS[entity].time
    ids = f"SELECT id FROM planted WHERE entity = '{entity}'"
    source = f"""
        SELECT id, moment, deleted, {", ".join(attributes(entity))} FROM (
            SELECT c.*, row_number() OVER (
                PARTITION BY c.partition, c.replay_of, CASE WHEN c.replay_of IS NULL THEN c.offset END
                ORDER BY c.offset, c.position
            ) AS nth
            FROM clean_{entity} c JOIN reached g ON g.entity = '{entity}' AND g.partition = c.partition
            WHERE c.id IN ({ids}) AND c.offset <= coalesce(g.stored, c.offset)
        ) m WHERE nth = 1 AND NOT EXISTS (
            FROM forgotten f WHERE f.entity = '{entity}' AND f.id = m.id AND m.moment < f.before
        )
    """
    make_versions(engine, entity, source)
    names = ", ".join([key, *attributes(entity), time, "valid_from", "valid_to", "is_current"])
    cents = ", ".join(f"round_even({a} * 100, 0)::BIGINT AS {a}" for a in named(entity, Holds.AMOUNT))
    wanted = f"SELECT {names} FROM (SELECT * {f'REPLACE ({cents})' if cents else ''} FROM versions_{entity})"
    mine = f"SELECT * FROM dim_{entity} WHERE {key} IN ({ids})"
    actual = f"SELECT {names} FROM ({mine})"
    engine.execute(f"""
        CREATE OR REPLACE TABLE wrong_{entity} AS
        SELECT DISTINCT {key} AS id FROM (
            ({wanted} EXCEPT ALL {actual}) UNION ALL ({actual} EXCEPT ALL {wanted})
        )
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE strange_{entity} AS
        SELECT {key} AS id, valid_from AS moment FROM ({mine})
        EXCEPT SELECT {key}, valid_from FROM versions_{entity}
    """)
