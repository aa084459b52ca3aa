"""Which ids have another history in the warehouse than all their clean changes make in order of their time."""

from retail_stream.entities import FIELDS, Entity
from retail_stream.verify.engine import Engine
from retail_stream.verify.layouts import Holds, named
from retail_stream.verify.versions import attributes, expected


def wrong(engine: Engine, entity: Entity) -> None:
    """Make ``wrong_<entity>``: the ids among the ledger's whose versions in ``dim_<entity>`` are not those that follow
    from ``clean_<entity>``, as far as the warehouse has come.
    """
    key, time = FIELDS[entity].key, FIELDS[entity].time
    source = f"""
        SELECT id, moment, deleted, {", ".join(attributes(entity))} FROM (
            SELECT c.*, row_number() OVER (
                PARTITION BY c.partition, c.replay_of, CASE WHEN c.replay_of IS NULL THEN c.offset END ORDER BY c.offset
            ) AS nth
            FROM clean_{entity} c
            LEFT JOIN stored s ON s.entity = '{entity}' AND s.partition = c.partition
            WHERE c.id IN (SELECT id FROM planted WHERE entity = '{entity}') AND c.offset <= coalesce(s.upto, c.offset)
        ) WHERE nth = 1
    """
    expected(engine, entity, source)
    names = ", ".join([key, *attributes(entity), time, "valid_from", "valid_to", "is_current"])
    cents = ", ".join(f"round_even({a} * 100, 0)::BIGINT AS {a}" for a in named(entity, Holds.AMOUNT))
    wanted = f"SELECT {names} FROM (SELECT * {f'REPLACE ({cents})' if cents else ''} FROM versions_{entity})"
    found = f"""
        SELECT {names} FROM dim_{entity} WHERE {key} IN (SELECT id FROM planted WHERE entity = '{entity}')
    """
    engine.execute(f"""
        CREATE OR REPLACE TABLE wrong_{entity} AS
        SELECT DISTINCT {key} AS id FROM (
            ({wanted} EXCEPT ALL {found}) UNION ALL ({found} EXCEPT ALL {wanted})
        )
    """)
