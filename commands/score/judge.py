"""For each entry of the ledger, whether what should happen did; SQL over the loaded tables, no I/O.

| expected | handled when |
|---|---|
| `rejected` | it is a dead letter, not in the clean topic, and nothing of it is in the warehouse |
| `kept` | it is in the clean topic as it was, no dead letter, and a sale has one fact and counts in its windows |
| `defaulted` | as `kept`, with `Unknown` in the field that was empty, and the history of its id is right |
| `counted_or_late` | as `kept`; a window may be without it where `sales.late` says so |
| `counted_once` | the sale has one fact and counts once in its windows, and its copy is no dead letter |
| `merged_in_order` | as `kept`, and its id has the history that all changes make in order of time |
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from commands.audit.engine import Engine
from commands.score import verdicts, windows
from commands.score.histories import wrong
from retail_stream.entities import DIMENSIONS, Entity

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
    _reached(engine)
    for entity in DIMENSIONS:
        wrong(engine, entity)
    windows.misses(engine)
    selects = [verdicts.of_sales(), *map(verdicts.of_changes, DIMENSIONS)]
    engine.execute(f"CREATE OR REPLACE TABLE verdicts AS {' UNION ALL '.join(map(_pending, selects))}")
    rows = engine.execute("""
        SELECT fault, count(*), count(*) FILTER (why IS NULL), count(*) FILTER (why IS NOT NULL AND NOT pending),
               count(*) FILTER (why IS NOT NULL AND pending), count(*) FILTER (why IS NULL AND is_late)
        FROM verdicts GROUP BY fault ORDER BY fault
    """).fetchall()
    return Score(tuple(_scored(engine, *row) for row in rows))


def _reached(engine: Engine) -> None:
    """Make ``reached``: a row per entity and partition, with ``passed`` (the cleaner is done with every raw offset
    before it) and ``stored`` (the largest raw offset that the warehouse has behind it); null: all of them.

    Where the warehouse keeps positions, a partition without one has not been begun: a pipeline that has just started
    has missed nothing. One that keeps none cannot say how far it is, and is taken as drained.
    """
    places = " UNION ".join(
        ["SELECT entity, partition FROM planted", *(f"SELECT '{e}', partition FROM clean_{e}" for e in Entity)]
    )
    engine.execute(f"""
        CREATE OR REPLACE TABLE reached AS
        SELECT entity, partition, coalesce(p.upto, CASE WHEN has_positions THEN 0 END) AS passed,
               coalesce(s.upto, CASE WHEN has_positions THEN -1 END) AS stored
        FROM ({places}) CROSS JOIN settings
        LEFT JOIN passed p USING (entity, partition) LEFT JOIN stored s USING (entity, partition)
    """)


def _pending(verdict: str) -> str:
    """SQL: ``why`` an entry was not handled (null: it was), and ``pending``: it still may be.

    What the topics lack, the cleaner may still bring until it is past the record; what only the warehouse lacks, its
    consumers may, until they are. ``verdict``: see verdicts.py.
    """
    return f"""
        SELECT entity, partition, "offset", id, fault, is_late, coalesce(in_topics, in_warehouse) AS why,
               coalesce("offset" >= passed, false)
               OR (in_topics IS NULL AND expected <> '{verdicts.REJECTED}' AND awaited) AS pending
        FROM ({verdict})
    """


def _scored(engine: Engine, fault: str, *counts: int) -> FaultScore:
    planted, handled, missed, on_its_way, too_late = counts
    return FaultScore(fault, planted, handled, missed, on_its_way, too_late, tuple(_examples(engine, fault)))


def _examples(engine: Engine, fault: str) -> Iterator[str]:
    rows = engine.execute(
        """SELECT entity, partition, "offset", id, why FROM verdicts
           WHERE fault = ? AND why IS NOT NULL AND NOT pending ORDER BY 1, 2, 3 LIMIT ?""",
        [fault, _EXAMPLES],
    ).fetchall()
    for entity, partition, offset, number, why in rows:
        yield f"{entity}.raw/{partition}@{offset} (id {number}): {why}"
