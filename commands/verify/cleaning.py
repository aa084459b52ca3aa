"""Checks that each raw record is in exactly one of clean and dead letters, the right one, with the right content."""

from commands.audit.engine import Engine, count
from commands.audit.layouts import holds
from commands.verify.compare import Differences, columns, differences, listed
from commands.verify.report import Check
from retail_stream.entities import Entity


def place(engine: Engine, entity: Entity, rules_version: str) -> None:
    """Find where the cleaner put each raw record.

    Reads ``raw_``, ``clean_`` and ``dead_<entity>``, and ``committed`` (topic, partition, next_offset: the cleaner's).
    Makes three tables:

    - ``first_<entity>``: clean records that are not repeats (partition, offset, source_offset);
    - ``letters_<entity>``: a row per raw record that has a dead letter; ``older``: other rules than today's judged it;
    - ``places_<entity>``: a row per raw record; ``good``: it belongs in clean; ``due``: the cleaner has committed it;
      ``clean_offset`` and ``lettered``: where it is.
    """
    engine.execute(f"""
        CREATE OR REPLACE TABLE first_{entity} AS
        SELECT partition, "offset", source_offset
        FROM (
            SELECT partition, "offset", source_offset, max(source_offset) OVER earlier AS before
            FROM clean_{entity} WHERE source_offset IS NOT NULL
            WINDOW earlier AS
                (PARTITION BY partition ORDER BY "offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ) WHERE source_offset > coalesce(before, -1)
    """)
    # A schema id that was not registered then may be registered by now: that verdict cannot be recomputed.
    engine.execute(f"""
        CREATE OR REPLACE TABLE letters_{entity} AS
        SELECT d.source_partition AS partition, d.source_offset AS "offset",
               bool_and(d.rules_version IS DISTINCT FROM '{rules_version}'
                        OR (d.rules = 'valid_avro' AND r.decoded AND d.message LIKE 'schema id % is not registered%')
               ) AS older
        FROM dead_{entity} d
        JOIN raw_{entity} r ON r.partition = d.source_partition AND r.offset = d.source_offset
        WHERE d.source_topic = '{entity}.raw'
        GROUP BY ALL
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE places_{entity} AS
        SELECT r.partition, r.offset, r.broken, r.broken = '' AND NOT coalesce(l.older, false) AS good,
               r.offset < coalesce(c.next_offset, 0) AS due,
               f.offset AS clean_offset, l.partition IS NOT NULL AS lettered
        FROM raw_{entity} r
        LEFT JOIN first_{entity} f ON f.partition = r.partition AND f.source_offset = r.offset
        LEFT JOIN letters_{entity} l ON l.partition = r.partition AND l.offset = r.offset
        LEFT JOIN committed c ON c.topic = '{entity}.raw' AND c.partition = r.partition
    """)


def checks(engine: Engine, entity: Entity, rules_version: str) -> tuple[Check, Check]:
    """The lines of ``<entity>.clean`` and ``<entity>.dlq``, after :func:`place` and ``recode``."""
    places = f"places_{entity}"
    clean = _misplaced_clean(engine, entity) + _content(engine, entity)
    dead = _misplaced_letters(engine, entity) + _letters(engine, entity, rules_version)
    older = count(engine, f"letters_{entity}", "older")
    return (
        Check(
            f"{entity}.clean",
            count(engine, places, "good AND (due OR clean_offset IS NOT NULL)"),
            count(engine, f"first_{entity}"),
            clean.count,
            clean.examples,
        ),
        Check(
            f"{entity}.dlq",
            count(engine, places, "NOT good AND (due OR lettered)"),
            count(engine, f"letters_{entity}"),
            dead.count,
            dead.examples,
            f"{older:,} judged by other rules than today's" if older else "",
        ),
    )


def _misplaced_clean(engine: Engine, entity: Entity) -> Differences:
    raw = f"'{entity}.raw/' || p.partition || '@' || p.offset"
    clean = f"'{entity}.clean/' || c.partition || '@' || c.offset"
    return listed(
        engine,
        f"""
        SELECT {raw} || ': good, and missing in {entity}.clean' FROM places_{entity} p
        WHERE good AND due AND clean_offset IS NULL
        UNION ALL
        SELECT {raw} || ': breaks ' || broken || ', and is in {entity}.clean' FROM places_{entity} p
        WHERE broken <> '' AND clean_offset IS NOT NULL
        UNION ALL
        SELECT {raw} || ': both in {entity}.clean and in {entity}.dlq' FROM places_{entity} p
        WHERE broken = '' AND clean_offset IS NOT NULL AND lettered
        UNION ALL
        SELECT {clean} || ': has no raw record' FROM clean_{entity} c
        ANTI JOIN raw_{entity} r ON r.partition = c.partition AND r.offset = c.source_offset
        """,
    )


def _content(engine: Engine, entity: Entity) -> Differences:
    """Key, timestamp, headers and fields of every clean record, repeats included."""
    both = f"clean_{entity} c JOIN raw_{entity} r ON r.partition = c.partition AND r.offset = c.source_offset"
    envelope = ("ts", "key", "headers")
    other = " OR ".join(f"c.{n} IS DISTINCT FROM r.{n}" for n in envelope)
    place = 'c.partition, c."offset"'
    noun = f"{entity}.clean"
    wrong = differences(
        engine,
        f"SELECT {place}, {', '.join(f'r.{n}' for n in envelope)} FROM {both} WHERE {other}",
        f"SELECT {place}, {', '.join(f'c.{n}' for n in envelope)} FROM {both} WHERE {other}",
        columns("partition", "offset"),
        columns(*envelope),
        noun,
    )
    names = ("decoded", "extra", *holds(entity))
    good = f"clean_{entity} c JOIN recoded_{entity} d ON d.partition = c.partition AND d.offset = c.offset"
    good = f"{good} JOIN raw_{entity} r ON r.partition = c.partition AND r.offset = c.source_offset AND r.broken = ''"
    return wrong + differences(
        engine,
        f"SELECT {place}, {', '.join(f'r.{n}' for n in names)} FROM {good}",
        f"SELECT {place}, {', '.join(f'd.{n}' for n in names)} FROM {good}",
        columns("partition", "offset"),
        columns(*names),
        noun,
    )


def _misplaced_letters(engine: Engine, entity: Entity) -> Differences:
    raw = f"'{entity}.raw/' || p.partition || '@' || p.offset"
    letter = f"'{entity}.dlq/' || d.partition || '@' || d.offset"
    return listed(
        engine,
        f"""
        SELECT {raw} || ': breaks ' || broken || ', and is missing in {entity}.dlq' FROM places_{entity} p
        WHERE broken <> '' AND due AND NOT lettered
        UNION ALL
        SELECT {raw} || ': breaks no rule, and is in {entity}.dlq' FROM places_{entity} p
        WHERE good AND lettered
        UNION ALL
        SELECT {letter} || ': has no raw record' FROM dead_{entity} d
        ANTI JOIN letters_{entity} l
            ON l.partition = d.source_partition AND l.offset = d.source_offset AND d.source_topic = '{entity}.raw'
        """,
    )


def _letters(engine: Engine, entity: Entity, rules_version: str) -> Differences:
    """Bytes of every dead letter, and the broken rules of those that today's rules judged."""
    names = ("key", "schema_id", "body", "headers", "rules")
    both = f"dead_{entity} d JOIN raw_{entity} r ON r.partition = d.source_partition AND r.offset = d.source_offset"
    both = f"{both} JOIN letters_{entity} l ON l.partition = r.partition AND l.offset = r.offset"
    judged = f"CASE WHEN d.rules_version = '{rules_version}' AND NOT l.older THEN r.broken ELSE d.rules END AS rules"
    place = 'd.partition, d."offset"'
    return differences(
        engine,
        f"SELECT {place}, r.key, r.schema_id, r.body, r.headers, {judged} FROM {both} WHERE r.broken <> '' OR l.older",
        f"SELECT {place}, {', '.join(f'd.{n}' for n in names)} FROM {both} WHERE r.broken <> '' OR l.older",
        columns("partition", "offset"),
        columns(*names),
        f"{entity}.dlq",
    )
