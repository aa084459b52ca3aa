"""The versions of a dimension that follow from a set of changes: SCD type 2, written down a second time, in SQL."""

from commands.audit.engine import Engine
from commands.audit.layouts import holds
from retail_stream.entities import FIELDS, Entity


def attributes(entity: Entity) -> tuple[str, ...]:
    """All fields but the key and the time, in schema order."""
    return tuple(f for f in holds(entity) if f not in (FIELDS[entity].key, FIELDS[entity].time))


def surrogate(entity: Entity) -> str:
    """The column of the surrogate key, such as ``customer_sk``."""
    return f"{FIELDS[entity].key.removesuffix('_id')}_sk"


def untracked(entity: Entity) -> tuple[str, ...]:
    """Fields whose changes make no new version: each version has the values of its last change."""
    on, but = FIELDS[entity].history_on, FIELDS[entity].history_except
    return tuple(a for a in attributes(entity) if a in but or (on and a not in on))


def largest(entity: Entity) -> str:
    """SQL to order the changes of one moment by: the one that wins is first."""
    return ", ".join(["deleted DESC", *(f"{a} DESC NULLS LAST" for a in attributes(entity))])


def make_versions(engine: Engine, entity: Entity, source: str) -> None:
    """Make ``versions_<entity>`` of the changes that ``source`` selects.

    ``source``: SQL with the columns ``id``, ``moment`` (microseconds), ``deleted`` and the attributes.
    ``versions_<entity>``: key, attributes, ``last_update_time``, ``valid_from`` (inclusive), ``valid_to`` (exclusive,
    null = open) and ``is_current``. The steps for the changes a@10, a@11, delete@12, b@20 of one id::

        changes     a@10    a@11    delete@12    b@20
        winners     a@10    a@11    delete@12    b@20     of several at one moment the largest, a delete first
        marked      turn            turn         turn     it differs from the change before it
        spans       [10, 12)        [12, 20)     [20, )   a turn lasts to the next one
        versions    a [10, 12)                   b [20, ) spans that are not deletes
    """
    names = attributes(entity)
    tracked = [a for a in names if a not in untracked(entity)]
    same = " AND ".join(f"{a} IS NOT DISTINCT FROM lag({a}) OVER history" for a in ("deleted", *tracked))
    last = ", ".join(f"last_value({a}) OVER stretch AS {a}" for a in untracked(entity))
    replaced = f"REPLACE ({last})" if last else ""
    engine.execute(f"""
        CREATE OR REPLACE TABLE versions_{entity} AS
        WITH changes AS ({source}),
        winners AS (
            SELECT * FROM changes
            QUALIFY row_number() OVER (PARTITION BY id, moment ORDER BY {largest(entity)}) = 1
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
