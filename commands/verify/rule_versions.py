"""The line of `cleaner.rules`: which versions of the rules records name."""

from collections.abc import Mapping

from commands.audit import engine as duck
from commands.audit.rule_sets import RuleSets
from commands.verify.compare import Differences, listed
from commands.verify.report import Check
from retail_stream.entities import Entity

_SHOWN = 12


def version_check(engine: duck.Engine, books: Mapping[Entity, RuleSets]) -> Check:
    """The line of ``cleaner.rules``: every version that a record names is there, with how many it judged."""
    named: list[tuple[Entity, str, int]] = []
    missing = Differences()
    for entity, book in books.items():
        rows = engine.execute(f"""
            SELECT coalesce(rules_version, ''), count(*) FROM (
                SELECT rules_version FROM first_{entity} UNION ALL SELECT rules_version FROM letters_{entity}
            ) GROUP BY 1 ORDER BY 2 DESC, 1
        """).fetchall()
        named += [(entity, version, judged) for version, judged in rows]
        missing += _unpublished(engine, book)
    there = sum(version in books[entity].published for entity, version, _ in named)
    judged = [f"{entity} {version or '?'} judged {n:,}" for entity, version, n in named]
    rest = f", and {len(judged) - _SHOWN} more" if len(judged) > _SHOWN else ""
    return Check("cleaner.rules", len(named), there, missing.count, missing.examples, ", ".join(judged[:_SHOWN]) + rest)


def _unpublished(engine: duck.Engine, book: RuleSets) -> Differences:
    known = ", ".join(f"'{v}'" for v in (*book.published, "")) or "''"
    topics = {f"{book.entity}.clean": f"clean_{book.entity}", f"{book.entity}.dlq": f"dead_{book.entity}"}
    return listed(
        engine,
        " UNION ALL ".join(
            f"""
            SELECT '{topic}/' || partition || '@' || "offset" || CASE
                WHEN coalesce(rules_version, '') = '' THEN ': has no header rules.version'
                ELSE ': names the rules.version ' || rules_version || ', and cleaner.rules holds no such rules' END
            FROM {table} WHERE rules_version IS NULL OR rules_version = '' OR rules_version NOT IN ({known})
            """
            for topic, table in topics.items()
        ),
    )
