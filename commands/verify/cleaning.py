"""Checks that each raw record is in exactly one of clean and dead letters, the right one, with the right content."""

from commands.audit.engine import Engine, count
from commands.audit.layouts import holds
from commands.audit.rule_sets import RuleSets
from commands.verify.compare import Column, Differences, Format, columns, differences, listed
from commands.verify.report import Check
from retail_stream.entities import Entity


def place(engine: Engine, book: RuleSets) -> None:
    """Find where the cleaner put each raw record, and judge it by the rules that it names there.

    Reads ``raw_``, ``clean_``, ``dead_`` and ``rules_<entity>``, ``committed`` (the cleaner's offsets) and the table of
    :func:`retained.letters`. Gives raw records the defaults that they must have in clean. Makes four tables:

    - ``first_<entity>``: clean records that are not repeats (partition, offset, source_offset, rules_version);
    - ``letters_<entity>``: a row per raw record that has a dead letter, with the ``rules_version`` of its last one;
      ``older``: that verdict cannot be recomputed; ``of_other_rules``: one of its letters is not by today's rules;
    - ``verdicts_<entity>``: a row per raw record and version that judged it, or today's, if it breaks any rule at all:
      ``broken``, the names of the rules that it breaks, sorted, with commas between;
    - ``places_<entity>``: a row per raw record; ``good``: it belongs in clean; ``due``: the cleaner has committed it,
      and it is not ``gone``: in neither, and its letter may be deleted; ``clean_offset`` and ``lettered``: where it is;
      ``rules_version``: what judged it, today's where it is nowhere; ``broken``: by that version.

    A record that was judged twice, as after a crash, may be in clean by one version and a dead letter by another.
    """
    entity = book.entity
    engine.execute(f"""
        CREATE OR REPLACE TABLE first_{entity} AS
        SELECT partition, "offset", source_offset, rules_version
        FROM (
            SELECT partition, "offset", source_offset, rules_version, max(source_offset) OVER earlier AS before
            FROM clean_{entity} WHERE source_offset IS NOT NULL
            WINDOW earlier AS
                (PARTITION BY partition ORDER BY "offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ) WHERE source_offset > coalesce(before, -1)
    """)
    foreign = ", ".join(f"'{v}'" for v in book.foreign) or "NULL"
    # A schema id that was not registered then may be registered by now, and topics may take larger records.
    engine.execute(f"""
        CREATE OR REPLACE TABLE letters_{entity} AS
        SELECT d.source_partition AS partition, d.source_offset AS "offset",
               arg_max(coalesce(d.rules_version, ''), d."offset") AS rules_version,
               bool_and(coalesce(d.rules_version IN ({foreign}), false)
                        OR (d.rules = 'valid_avro' AND r.decoded AND d.message LIKE 'schema id % is not registered%')
                        OR list_contains(string_split(d.rules, ','), 'size_forwardable')
               ) AS older, bool_or(coalesce(d.rules_version, '') <> '{book.today.version}') AS of_other_rules
        FROM dead_{entity} d
        JOIN raw_{entity} r ON r.partition = d.source_partition AND r.offset = d.source_offset
        WHERE d.source_topic = '{entity}.raw'
        GROUP BY ALL
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE verdicts_{entity} AS
        WITH suspects AS (
            SELECT partition, "offset", broken, unmet FROM raw_{entity} WHERE broken <> '' OR len(unmet) > 0
        ), named AS (
            SELECT partition, source_offset AS "offset", rules_version FROM clean_{entity}
            UNION SELECT source_partition, source_offset, rules_version FROM dead_{entity}
                WHERE source_topic = '{entity}.raw'
            UNION SELECT partition, "offset", '{book.today.version}' FROM suspects
        )
        SELECT s.partition, s.offset, coalesce(n.rules_version, '') AS rules_version,
               array_to_string(list_sort(list_distinct(
                   coalesce(string_split(nullif(any_value(s.broken), ''), ','), [])
                   || coalesce(list(r.name) FILTER (WHERE r.action <> 'default'), [])
               )), ',') AS broken
        FROM suspects s JOIN named n ON n.partition = s.partition AND n.offset = s.offset
        LEFT JOIN rules_{entity} r ON r.version = n.rules_version AND list_contains(s.unmet, r.number)
        WHERE n.rules_version IS NULL OR n.rules_version NOT IN ({foreign.replace("NULL", "''")})
        GROUP BY ALL
    """)
    engine.execute(f"""
        CREATE OR REPLACE TABLE places_{entity} AS
        SELECT p.* REPLACE (due AND NOT gone AS due), coalesce(v.broken, '') AS broken,
               coalesce(v.broken, '') = '' AND NOT older AND NOT gone AS good
        FROM (
            SELECT r.partition, r.offset, r.offset < coalesce(c.next_offset, 0) AS due,
                   f.offset IS NULL AND l.partition IS NULL AND k.first IS NOT NULL AND due AS gone,
                   f.offset AS clean_offset, l.partition IS NOT NULL AS lettered, coalesce(l.older, false) AS older,
                   CASE WHEN f.offset IS NOT NULL THEN coalesce(f.rules_version, '')
                        ELSE coalesce(l.rules_version, '{book.today.version}') END AS rules_version
            FROM raw_{entity} r
            LEFT JOIN first_{entity} f ON f.partition = r.partition AND f.source_offset = r.offset
            LEFT JOIN letters_{entity} l ON l.partition = r.partition AND l.offset = r.offset
            LEFT JOIN committed c ON c.topic = '{entity}.raw' AND c.partition = r.partition
            LEFT JOIN letters_from k ON k.topic = '{entity}.dlq' AND k.partition = r.partition AND r.offset < k.first
        ) p LEFT JOIN verdicts_{entity} v
            ON v.partition = p.partition AND v.offset = p.offset AND v.rules_version = p.rules_version
    """)
    for (field,) in engine.execute(f"SELECT DISTINCT field FROM rules_{entity} WHERE action = 'default'").fetchall():
        engine.execute(f"""
            UPDATE raw_{entity} AS r SET "{field}" = d.value
            FROM places_{entity} p JOIN rules_{entity} d ON d.version = p.rules_version AND d.field = '{field}'
            WHERE p.partition = r.partition AND p.offset = r.offset AND list_contains(r.unmet, d.number)
              AND d.action = 'default' AND (p.good OR p.clean_offset IS NOT NULL)
        """)


def checks(engine: Engine, entity: Entity) -> tuple[Check, Check]:
    """The lines of ``<entity>.clean`` and ``<entity>.dlq``, after :func:`place` and ``recode``."""
    places = f"places_{entity}"
    clean = _misplaced_clean(engine, entity) + _content(engine, entity)
    dead = _misplaced_letters(engine, entity) + _letters(engine, entity)
    notes = {
        "that cannot be judged anew": count(engine, f"letters_{entity}", "older"),
        "raw records before the first letter that is left are in neither topic": count(engine, places, "gone"),
    }
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
            # A record that another version let pass, too, is in both.
            count(engine, places, "lettered OR (NOT good AND due)"),
            count(engine, f"letters_{entity}"),
            dead.count,
            dead.examples,
            ", ".join(f"{number:,} {what}" for what, number in notes.items() if number),
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
        SELECT DISTINCT {raw} || ': breaks ' || p.broken || ', and is in {entity}.clean'
        FROM verdicts_{entity} p JOIN clean_{entity} c ON c.partition = p.partition AND c.source_offset = p.offset
            AND coalesce(c.rules_version, '') = p.rules_version
        WHERE p.broken <> ''
        UNION ALL
        SELECT {clean} || ': has no raw record' FROM clean_{entity} c
        ANTI JOIN raw_{entity} r ON r.partition = c.partition AND r.offset = c.source_offset
        """,
    )


def _content(engine: Engine, entity: Entity) -> Differences:
    """Key, timestamp and headers of every clean record, and the fields of those that the first one's rules judged."""
    both = f"clean_{entity} c JOIN raw_{entity} r ON r.partition = c.partition AND r.offset = c.source_offset"
    envelope = ("ts", "key", "headers")
    other = " OR ".join(f"c.{n} IS DISTINCT FROM r.{n}" for n in envelope)
    place, noun = 'c.partition, c."offset"', f"{entity}.clean"
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
    good = f"{good} JOIN raw_{entity} r ON r.partition = c.partition AND r.offset = c.source_offset"
    good = f"{good} JOIN places_{entity} p ON p.partition = r.partition AND p.offset = r.offset AND p.broken = ''"
    good = f"{good} AND p.rules_version = coalesce(c.rules_version, '')"
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
        SELECT DISTINCT {raw} || CASE
            WHEN p.clean_offset IS NOT NULL AND p.rules_version = coalesce(d.rules_version, '')
                THEN ': both in {entity}.clean and in {entity}.dlq'
            ELSE ': breaks no rule, and is in {entity}.dlq' END
        FROM dead_{entity} d
        JOIN letters_{entity} l ON l.partition = d.source_partition AND l.offset = d.source_offset AND NOT l.older
        JOIN places_{entity} p ON p.partition = l.partition AND p.offset = l.offset
        ANTI JOIN verdicts_{entity} v ON v.partition = l.partition AND v.offset = l.offset AND v.broken <> ''
            AND v.rules_version = coalesce(d.rules_version, '')
        WHERE d.source_topic = '{entity}.raw'
        UNION ALL
        SELECT {letter} || ': has no raw record' FROM dead_{entity} d
        ANTI JOIN letters_{entity} l
            ON l.partition = d.source_partition AND l.offset = d.source_offset AND d.source_topic = '{entity}.raw'
        """,
    )


def _letters(engine: Engine, entity: Entity) -> Differences:
    """Every field of every dead letter: the record as it came, and why the version that it names rejects it."""
    names = ("key", "schema_id", "body", "headers", "rules")
    why = ("source_partition", "ts", "stage", "exception", "message")
    both = f"dead_{entity} d JOIN raw_{entity} r ON r.partition = d.source_partition AND r.offset = d.source_offset"
    both = f"{both} JOIN letters_{entity} l ON l.partition = r.partition AND l.offset = r.offset"
    both = f"{both} LEFT JOIN verdicts_{entity} v ON v.partition = r.partition AND v.offset = r.offset"
    both = f"{both} AND v.rules_version = coalesce(d.rules_version, '')"
    judged = "CASE WHEN l.older THEN d.rules ELSE v.broken END AS rules"
    place = 'd.partition, d."offset"'
    # Where the topic could not take it, the raw topic has the payload.
    payload = [f"CASE WHEN d.payload = 'in raw topic' THEN NULL ELSE r.{n} END AS {n}" for n in names[:3]]
    expected = [f"{sql} AS {name}" for name, sql in zip(why, _why(entity), strict=True)]
    known = "coalesce(v.broken, '') <> '' OR l.older"
    return differences(
        engine,
        f"SELECT {place}, {', '.join([*payload, 'r.headers', judged, *expected])} FROM {both} WHERE {known}",
        f"SELECT {place}, {', '.join(f'd.{n}' for n in (*names, *why))} FROM {both} WHERE {known}",
        columns("partition", "offset"),
        (*columns(*names, "source_partition"), Column("ts", Format.TIME), *columns("stage", "exception", "message")),
        f"{entity}.dlq",
    )


def _why(entity: Entity) -> tuple[str, ...]:
    """SQL: source_partition, ts, stage, exception and message that the dead letter ``d`` of a raw record must have.

    ``r``: the raw record; ``l``: its row of ``letters_``. The cleaner's own are the words for what cannot be decoded,
    forwarded or read, and all words of a cleaner with other rules than today's: it may be of another release.
    """
    named = "string_split(d.rules, ',')"
    undecoded = f"list_has_any({named}, ['valid_avro', 'value_present', 'schema_forwardable'])"
    own_words = f"{undecoded} OR list_has_any({named}, ['headers_readable', 'size_forwardable'])"
    stage = (
        f"CASE WHEN l.older OR list_contains({named}, 'size_forwardable') THEN d.stage"
        f" WHEN list_contains({named}, 'headers_readable') THEN 'HEADER_CONVERTER'"
        f" WHEN {undecoded} THEN 'VALUE_CONVERTER' ELSE 'TRANSFORMATION' END"
    )
    # Earlier releases had the class in other modules.
    exception = "CASE WHEN d.exception LIKE '%.Rejected' THEN d.exception ELSE 'retail_stream.errors.Rejected' END"
    message = (
        f"CASE WHEN l.of_other_rules OR l.older OR {own_words} THEN coalesce(nullif(d.message, ''), 'a reason')"
        f" ELSE '{entity} record breaks: ' || replace(d.reported, ',', ', ') END"
    )
    return "d.partition", "r.ts", stage, exception, message
