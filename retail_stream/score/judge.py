"""For each entry of the ledger, whether what should happen did; SQL over the loaded tables, no I/O.

| expected | handled when |
|---|---|
| `rejected` | it is a dead letter and not in the clean topic |
| `kept` | it is in the clean topic, no dead letter, and a sale has one fact (a return with a negative quantity) |
| `defaulted` | it is in the clean topic with `Unknown` in the field that was empty |
| `counted_or_late` | as `kept`; whether it ended on `sales.late` is counted beside it |
| `counted_once` | the sale has one fact, and its copy is no dead letter |
| `merged_in_order` | it is in the clean topic, and its id has the history that all changes make in order of time |
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.score.histories import wrong
from retail_stream.score.tables import EMPTIED, UNKNOWN
from retail_stream.verify.engine import Engine

_EXAMPLES = 5


@dataclass(frozen=True)
class FaultScore:
    """``planted`` = ``handled`` + ``missed`` + ``on_its_way``; ``too_late``: of the handled, those on `sales.late`."""

    fault: str
    planted: int
    handled: int
    missed: int
    on_its_way: int
    too_late: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """All faults that were planted, in the ledger's names."""

    faults: tuple[FaultScore, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether nothing was missed."""
        return not any(f.missed for f in self.faults)

    def as_dict(self) -> dict:
        """As JSON has it."""
        return {"ok": self.ok, "faults": [asdict(f) for f in self.faults]}


def judge(engine: Engine) -> Score:
    """The score of the loaded tables."""
    for entity in DIMENSIONS:
        wrong(engine, entity)
    engine.execute(f"CREATE OR REPLACE TABLE verdicts AS {' UNION ALL '.join(map(_verdicts, Entity))}")
    rows = engine.execute("""
        SELECT fault, count(*), count(*) FILTER (why IS NULL), count(*) FILTER (why IS NOT NULL AND NOT pending),
               count(*) FILTER (why IS NOT NULL AND pending), count(*) FILTER (why IS NULL AND is_late)
        FROM verdicts GROUP BY fault ORDER BY fault
    """).fetchall()
    return Score(tuple(_scored(engine, *row) for row in rows))


def _scored(engine: Engine, fault: str, *counts: int) -> FaultScore:
    planted, handled, missed, on_its_way, too_late = counts
    return FaultScore(fault, planted, handled, missed, on_its_way, too_late, tuple(_examples(engine, fault)))


def _verdicts(entity: Entity) -> str:
    """SQL: the entity's entries with ``why`` one was not handled (null: it was), ``pending`` and ``is_late``."""
    is_sales = entity is Entity.SALES
    emptied = EMPTIED.get(entity)
    filled = f"c.{emptied} = '{UNKNOWN}'" if emptied else "true"
    one = f'SELECT partition, "offset"{f", any_value({emptied}) AS {emptied}" if emptied else ""}'
    late = "l.offset IS NOT NULL" if is_sales else "false"
    facts = "s.has_facts" if is_sales else "false"
    wrong_history = "false" if is_sales else "w.id IS NOT NULL"
    unique = 'SELECT DISTINCT partition, "offset" FROM'
    joins = (
        f"""LEFT JOIN facts f ON f.id = p.id
            LEFT JOIN ({unique} late) l ON l.partition = p.partition AND l.offset = p.offset"""
        if is_sales
        else f"LEFT JOIN wrong_{entity} w ON w.id = p.id"
    )
    count, quantity = ("coalesce(f.facts, 0)", "coalesce(f.quantity, 0)") if is_sales else ("1", "0")
    return f"""
        SELECT p.*, {late} AS is_late,
            coalesce(p.offset >= passed.upto, false)
            OR (p.expected <> 'rejected' AND coalesce(p.offset > stored.upto, false)) AS pending,
            CASE
                WHEN p.expected = 'rejected' AND c.offset IS NOT NULL THEN 'it is in the clean topic'
                WHEN p.expected = 'rejected' AND d.offset IS NULL THEN 'it is no dead letter'
                WHEN p.expected = 'rejected' THEN NULL
                WHEN d.offset IS NOT NULL THEN 'it is a dead letter'
                WHEN c.offset IS NULL AND NOT (p.expected = 'counted_once' AND {facts})
                    THEN 'it is not in the clean topic'
                WHEN p.expected = 'defaulted' AND NOT coalesce({filled}, false) THEN 'its empty field has no default'
                WHEN p.expected = 'merged_in_order' AND {wrong_history} THEN 'the history of its id is another'
                WHEN {facts} AND {count} = 0 THEN 'it has no fact'
                WHEN {facts} AND {count} > 1 THEN 'it has more than one fact'
                WHEN {facts} AND p.fault = 'return' AND {quantity} >= 0 THEN 'its fact is no return'
            END AS why
        FROM planted p CROSS JOIN settings s
        LEFT JOIN ({one} FROM clean_{entity} GROUP BY 1, 2) c ON c.partition = p.partition AND c.offset = p.offset
        LEFT JOIN ({unique} dead_{entity}) d ON d.partition = p.partition AND d.offset = p.offset
        LEFT JOIN passed ON passed.entity = p.entity AND passed.partition = p.partition
        LEFT JOIN stored ON stored.entity = p.entity AND stored.partition = p.partition
        {joins}
        WHERE p.entity = '{entity}'
    """


def _examples(engine: Engine, fault: str) -> Iterator[str]:
    rows = engine.execute(
        """SELECT entity, partition, "offset", id, why FROM verdicts
           WHERE fault = ? AND why IS NOT NULL AND NOT pending ORDER BY 1, 2, 3 LIMIT ?""",
        [fault, _EXAMPLES],
    ).fetchall()
    for entity, partition, offset, number, why in rows:
        yield f"{entity}.raw/{partition}@{offset} (id {number}): {why}"
