"""Checks every fact, the ids that sales name, and the dimension versions that the view joins to facts."""

from commands.audit.engine import Engine, count
from commands.audit.versions import surrogate
from commands.verify.compare import Column, Format, check, columns, differences, listed
from commands.verify.report import Check
from commands.verify.watermarks import IDENTITY
from retail_stream.entities import FIELDS, JOINED, Entity

#: What ``sales_enriched`` is made of, and the prefix of these tables if they were loaded again.
SOURCES = ("fact_sales", *(f"dim_{e}" for e in JOINED))
AGAIN = "again_"
KEYS = (Column("transaction_id"), Column("event_time", Format.TIME), Column("store_id"))
#: Column of ``fact_sales`` → column of ``sales``.
CENTS = {
    "unit_price": "unit_cents",
    "total_amount": "total_cents",
    "discount_applied": "discount_cents",
    "tax_amount": "tax_cents",
}
_PLAIN = ("customer_id", "product_id", "quantity", "payment_method", "extra")
#: Column of ``fact_sales`` that names the record → SQL over ``sales``. Times end with the years 1 and 9999.
_RECORD = {
    "published_at": "least(greatest(ts, -62135596800000000), 253402300799999999)",
    "source_partition": "partition",
    "source_offset": '"offset"',
}
#: The values of a fact or a late sale but its key, as both relations have them.
VALUES = (
    *columns(*_PLAIN),
    *columns(*CENTS, format=Format.CENTS),
    Column("published_at", Format.TIME),
    *columns("source_partition", "source_offset"),
)
#: SQL: the columns of a fact, selected from ``sales``.
OF_SALES = ", ".join([IDENTITY, *_PLAIN, *(f"{sql} AS {name}" for name, sql in {**CENTS, **_RECORD}.items())])


def fact_check(engine: Engine) -> Check:
    """The line of ``fact_sales``: every column of the first record of each identity in ``sales``."""
    # Where a producer puts a store's sales into two partitions, either of two records may be the first.
    same = ", ".join(
        f"({' AND '.join(f'c.{n} IS NOT DISTINCT FROM f.{n}' for n in names)}) DESC"
        for names in ((*_PLAIN, *CENTS), _RECORD)
    )
    engine.execute(f"""
        CREATE OR REPLACE TABLE facts AS
        WITH candidates AS (
            SELECT {OF_SALES}, count(*) OVER (PARTITION BY {IDENTITY}) AS places
            FROM sales WHERE nth = 1
        )
        SELECT * FROM candidates WHERE places = 1
        UNION ALL
        SELECT c.* FROM candidates c LEFT JOIN fact_sales f USING ({IDENTITY}) WHERE c.places > 1
        QUALIFY row_number() OVER (PARTITION BY {IDENTITY} ORDER BY {same}) = 1
    """)
    # Facts of an earlier release do not name their records.
    nothing = ", ".join(f"{n} = NULL" for n in _RECORD)
    unnamed = " AND ".join(f"f.{n} IS NULL" for n in _RECORD)
    engine.execute(f"""
        UPDATE facts SET {nothing} FROM fact_sales f, stored_before b
        WHERE {" AND ".join(f"facts.{k.name} = f.{k.name}" for k in KEYS)} AND {unnamed}
          AND facts.source_partition = b.partition AND facts.source_offset <= b.source_offset
    """)
    sums = [
        engine.execute(f"SELECT coalesce(sum(total_amount), 0) FROM {t}").fetchall()[0][0]
        for t in ("facts", "fact_sales")
    ]
    note = " = ".join(["Σ total_amount", *map(Column("", Format.CENTS).show, sums)])
    return check(engine, "fact_sales", "facts", "fact_sales", KEYS, VALUES, note)


def no_fact_check(engine: Engine) -> Check:
    """The line of ``fact_sales`` where FACT_SALES is stored as `off`: a warehouse with facts cannot change to that."""
    there = count(engine, "fact_sales")
    return Check("fact_sales", 0, there, there, note="FACT_SALES is stored as off")


def reference_check(engine: Engine) -> Check:
    """Sales whose customer, product or store has no good record in its dimension; none is expected."""
    strangers = " UNION ALL ".join(
        f"""
        SELECT 'transaction_id ' || transaction_id || ': {FIELDS[e].key} ' || {FIELDS[e].key} || ' is in no {e} record'
        FROM sales ANTI JOIN (
            SELECT r.{FIELDS[e].key} FROM raw_{e} r JOIN places_{e} p USING (partition, "offset") WHERE p.good
        ) USING ({FIELDS[e].key})
        """
        for e in JOINED
    )
    unknown = listed(engine, strangers)
    note = f"of {looked_at:,} sales" if (looked_at := count(engine, "sales")) else ""
    return Check("sales with ids in no dimension", 0, unknown.count, unknown.count, unknown.examples, note)


def enriched_check(engine: Engine) -> Check:
    """The line of ``sales_enriched``: a row per loaded fact, with the versions that are valid at its ``event_time``.

    Reads ``dim_<entity>`` and ``fact_sales`` as loaded, so that a wrong version is not reported twice: of the snapshot
    that the view was read in, which may be another one. ``odd`` names the other columns of the view that are not those
    of the fact and of the versions that the view names.
    """
    where = "information_schema.tables"
    made_of = AGAIN if count(engine, where, f"table_name = '{AGAIN}{SOURCES[0]}'") else ""
    surrogates = [surrogate(e) for e in JOINED]
    versions = ", ".join(f"v_{e}.sk AS {surrogate(e)}" for e in JOINED)
    joins = " ".join(
        f"LEFT JOIN ({_valid(e, made_of)}) v_{e} ON {' AND '.join(f'v_{e}.{k.name} = f.{k.name}' for k in KEYS)}"
        for e in JOINED
    )
    keys = ", ".join(f"f.{k.name}" for k in KEYS)
    wanted = f"SELECT {keys}, {versions} FROM {made_of}fact_sales f {joins}"
    differing = differences(engine, wanted, "sales_enriched", KEYS, columns(*surrogates))
    differing += listed(
        engine, "SELECT 'transaction_id ' || transaction_id || ': ' || odd FROM sales_enriched WHERE odd IS NOT NULL"
    )
    figures = count(engine, f"{made_of}fact_sales"), count(engine, "sales_enriched")
    note = "read in a second snapshot, as the first session ended" if made_of else ""
    return Check("sales_enriched", *figures, differing.count, differing.examples, note)


def _valid(entity: Entity, made_of: str) -> str:
    """SQL: identity of each fact → ``sk`` of the version at its time; of the first, if the sale is older than all."""
    key = FIELDS[entity].key
    identity = ", ".join(f"f.{k.name}" for k in KEYS)
    return f"""
        SELECT {identity}, CASE WHEN d.sk IS NULL THEN oldest.sk WHEN d.valid_to <= f.event_time THEN NULL ELSE d.sk END
                   AS sk
        FROM {made_of}fact_sales f
        ASOF LEFT JOIN {made_of}dim_{entity} d ON d.{key} = f.{key} AND d.valid_from <= f.event_time
        LEFT JOIN (SELECT {key}, arg_min(sk, valid_from) AS sk FROM {made_of}dim_{entity} GROUP BY {key}) oldest
            ON oldest.{key} = f.{key}
    """
