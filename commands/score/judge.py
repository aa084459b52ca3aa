"""Judges whether what should happen to each entry of the ledger did happen: SQL over the loaded tables, no I/O.

| expected | handled when |
|---|---|
| `rejected` | it is a dead letter, not in the clean topic, and it left nothing in the warehouse |
| `kept` | it is in the clean topic as it was and not a dead letter; a sale has one fact and counts in its windows |
| `defaulted` | as `kept`, with `Unknown` in the field that was empty, and the history of its id is right |
| `counted_or_late` | as `kept`; a window may be without it where `sales.late` says so |
| `counted_once` | the sale has one fact and counts once in its windows, and its copy is not a dead letter |
| `merged_in_order` | as `kept`, and its id has the history that all changes make in order of time |

Where the rules that a record names decide otherwise than the ledger, `rules` has changed what is expected of it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from commands.audit.engine import Engine
from commands.score import verdicts, windows
from commands.score.histories import compare_histories
from retail_stream.entities import DIMENSIONS, Entity

_EXAMPLES = 5


@dataclass(frozen=True)
class FaultScore:
    """The entries of one fault: ``planted`` = ``handled`` + ``missed`` + ``on_its_way``.

    ``too_late`` of the handled ones are on `sales.late`.
    """

    fault: str
    planted: int
    handled: int
    missed: int
    on_its_way: int
    too_late: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """All faults that were planted, under the names that the ledger gives them."""

    faults: tuple[FaultScore, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether nothing was missed."""
        return not any(f.missed for f in self.faults)

    def as_dict(self) -> dict[str, Any]:
        """The score as plain values for JSON."""
        return {"ok": self.ok, "faults": [asdict(f) for f in self.faults]}


def judge(engine: Engine) -> Score:
    """The score of the loaded tables."""
    _reached(engine)
    for entity in DIMENSIONS:
        compare_histories(engine, entity)
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
    """Make ``reached``: how far the pipeline is in each partition of each entity.

    ``passed``: the cleaner has handled every raw offset before it; ``stored``: the largest raw offset that is in the
    warehouse. Null stands for all offsets. Where the warehouse keeps positions, a partition without one has not begun:
    a pipeline that has just started has missed nothing. A pipeline without positions is taken as drained.
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
    """SQL: ``why`` an entry was not handled (null where it was), and ``pending``: it may still be handled.

    Until the cleaner has passed the record, it may still add what the topics lack. Until the consumers of the clean
    topic have passed it, they may still add what the warehouse lacks. ``verdict``: see verdicts.py.
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
