"""What becomes of a planted record is also up to the rules of `schemas/rules` that judged it.

A return that a new rule rejects is a dead letter, and a negative discount is kept where no rule forbids it any more.
"""

from commands.audit.engine import Engine
from commands.audit.rule_sets import RuleSets
from commands.score.verdicts import KEPT, REJECTED


def expect(engine: Engine, book: RuleSets) -> None:
    """Change ``expected`` in ``planted`` for records whose outcome the rules that they name decide otherwise.

    Reads ``judged_``, ``rules_``, ``clean_`` and ``dead_<entity>``. A record that names no published version, and one
    that is nowhere yet, is expected to become what the ledger says.
    """
    entity = book.entity
    known = ", ".join(f"'{version}'" for version in book.recomputable) or "NULL"
    engine.execute(f"""
        CREATE OR REPLACE TABLE outcomes AS
        WITH named AS (
            SELECT partition, "offset", rules_version FROM dead_{entity}
            UNION SELECT partition, "offset", rules_version FROM clean_{entity}
        ), verdicts AS (
            SELECT j.partition, j.offset,
                   any_value(j.broken) <> '' OR bool_or(coalesce(r.action IN ('reject', 'fail'), false)) AS is_rejected
            FROM judged_{entity} j JOIN named n ON n.partition = j.partition AND n.offset = j.offset
            LEFT JOIN rules_{entity} r ON r.version = n.rules_version AND list_contains(j.unmet, r.number)
            WHERE n.rules_version IN ({known})
            GROUP BY j.partition, j.offset, n.rules_version
        )
        SELECT partition, "offset", bool_or(is_rejected) AS is_rejected FROM verdicts
        GROUP BY partition, "offset" HAVING count(DISTINCT is_rejected) = 1
    """)
    engine.execute(f"""
        UPDATE planted AS p SET expected = CASE WHEN o.is_rejected THEN '{REJECTED}' ELSE '{KEPT}' END
        FROM outcomes o
        WHERE p.entity = '{entity}' AND o.partition = p.partition AND o.offset = p.offset
          AND o.is_rejected <> (p.expected = '{REJECTED}')
    """)
