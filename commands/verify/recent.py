"""One run of `verify --since`: the comparisons of a full run, over what was published since a time.

What is compared, and what stands in for the records before the cut::

    clean records, dead letters    of the raw records behind the cut
    versions                       that begin five minutes after the time or later, from the stored changes on
    sales with unknown ids         against the stored changes; they fail if the generator's ledger has them
    facts                          of the sales behind the cut
    windows and their results      that begin five minutes after the time or later: no sale before the cut is in them

A good record is at most five minutes ahead of its timestamp, so what happens later comes from records behind the cut.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from commands.audit.engine import Engine, count
from commands.audit.rule_sets import RuleSets
from commands.audit.versions import make_versions
from commands.progress import Shown
from commands.verify import cleaning, facts, guards, retained, versions, watermarks, windows
from commands.verify.compare import Column, Format, listed
from commands.verify.load import Decoders
from commands.verify.recent_load import add_facts, gather, load_earlier_sales, load_ledger
from commands.verify.report import Check
from commands.verify.results import window_results
from commands.verify.revisions import revision_check
from commands.verify.rule_versions import version_check
from commands.verify.shaping import shaping
from commands.verify.since import Cut, cut
from commands.verify.watermarks import IDENTITY
from retail_stream.entities import DIMENSIONS, FIELDS, JOINED, Entity
from retail_stream.settings import Connections
from retail_stream.topics import Group

_VALUES = ("customer_id", "product_id", "quantity", "payment_method", "extra")


def compare(connections: Connections, engine: Engine, since_ms: int, progress: Shown, note: str) -> Iterator[Check]:
    """Load what was published since a time, and yield a line for each comparison.

    ``since_ms``: milliseconds since 1970-01-01 UTC. ``note``: why it is compared from there, for the first line.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """
    progress.say("asking for offsets")
    from_here = cut(connections, since_ms)
    decoders = Decoders(connections)
    books = gather(connections, engine, from_here, decoders, progress)
    yield from _cleaning(engine, books, from_here, note)
    settings = shaping(engine)
    yield guards.guard_check(engine, [g.table for g in settings.groupings])
    yield guards.id_check(engine)
    for entity in DIMENSIONS:
        yield _version_check(engine, entity, from_here)
    watermarks.judge(engine, settings.delay)
    yield _reference_check(connections, engine, decoders, progress)
    if settings.has_facts:
        add_facts(connections, engine, from_here)
        yield _fact_check(connections, engine, from_here, decoders, progress)
    windows.judge(engine, settings.windows, settings.lateness)
    for grouping in settings.groupings:
        stream, wanted = watermarks.stream_watermark(engine), windows.made(grouping)
        windows.make_windows(engine, grouping, settings.lateness, stream)
        complete_us = from_here.complete_us
        if grouping.is_session:
            # A session that begins before may have its first sales before the cut.
            complete_us += grouping.sizes[0].size
            engine.execute(f"DELETE FROM {grouping.table} WHERE window_start < {complete_us}")
            engine.execute(
                f"DELETE FROM window_results WHERE kind = '{grouping.kind}' AND window_start < {complete_us}"
            )
        engine.execute(f"DELETE FROM {wanted} WHERE window_start < {complete_us}")
        retained.drop_windows(engine, wanted, grouping.table)
        yield _noted(windows.window_check(engine, grouping), f"that begin {_from(from_here)}")
    yield _noted(
        window_results(engine, settings.groupings, settings.lateness), f"of windows that begin {_from(from_here)}"
    )
    yield revision_check(engine, settings.groupings, settings.lateness)


def _cleaning(engine: Engine, books: Mapping[Entity, RuleSets], from_here: Cut, why: str) -> Iterator[Check]:
    published = sum(count(engine, f"raw_{entity}") for entity in Entity)
    note = "" if published else "nothing was published since then, so nothing is compared"
    note = ", ".join(filter(None, (why, note)))
    yield Check(f"published since {from_here.shown}", published, published, note=note)
    for entity in Entity:
        cleaning.place(engine, books[entity])
        yield from cleaning.checks(engine, entity)
    yield version_check(engine, books)


def _version_check(engine: Engine, entity: Entity, from_here: Cut) -> Check:
    start = from_here.complete_us
    make_versions(
        engine,
        entity,
        f"""
        SELECT * FROM ({versions.changes(entity)}) WHERE moment >= {start}
        UNION ALL BY NAME SELECT * FROM before_{entity}
        """,
    )
    engine.execute(f"DELETE FROM versions_{entity} WHERE valid_from < {start}")
    return _noted(versions.version_check(engine, entity), f"that begin {_from(from_here)}")


def _reference_check(connections: Connections, engine: Engine, decoders: Decoders, progress: Shown) -> Check:
    """Sales whose customer, product or store no dimension knows. They fail if the generator's ledger has them."""
    name = "sales with ids in no dimension"
    behind = [entity for entity in JOINED if _is_behind(engine, entity)]
    engine.execute('CREATE OR REPLACE TABLE strangers (partition BIGINT, "offset" BIGINT, unknown VARCHAR)')
    for entity in JOINED:
        key = FIELDS[entity].key
        if entity not in behind:
            engine.execute(f"""
                INSERT INTO strangers
                SELECT s.partition, s.offset,
                       'transaction_id ' || s.transaction_id || ': {key} ' || s.{key} || ' is in no {entity} record'
                FROM sales s ANTI JOIN known_{entity} USING ({key}) ANTI JOIN (
                    SELECT r.{key} FROM raw_{entity} r JOIN places_{entity} p USING (partition, "offset") WHERE p.good
                ) good USING ({key})
            """)
    notes = [f"{entity}: not looked at, scd_merger is still before that time" for entity in behind]
    if not (unknown := count(engine, "strangers")):
        return Check(name, 0, 0, note="; ".join(notes))
    load_ledger(connections, engine, decoders, progress)
    of_ours = "EXISTS (FROM planted p WHERE p.entity = 'sales' AND p.partition = s.partition AND p.offset = s.offset)"
    ours = listed(engine, f"SELECT unknown FROM strangers s WHERE {of_ours}")
    foreign = listed(engine, f"SELECT unknown FROM strangers s WHERE NOT {of_ours}")
    if foreign.count:
        notes.append(f"{unknown - ours.count:,} that the ledger does not have, such as {foreign.examples[0]}")
    return Check(name, 0, ours.count, ours.count, ours.examples, "; ".join(notes))


def _is_behind(engine: Engine, entity: Entity) -> bool:
    """Whether the merger has records before the cut still to read: their ids are not known."""
    return bool(
        count(
            engine,
            f"""(
            SELECT f.partition FROM found f
            LEFT JOIN positions p ON p.consumer_group = '{Group.SCD_MERGER}' AND p.topic = f.topic
                AND p.partition = f.partition
            LEFT JOIN (SELECT partition, min("offset") AS first FROM clean_{entity} GROUP BY partition) c
                ON c.partition = f.partition
            WHERE f.topic = '{entity}.clean' AND coalesce(p.next_offset, 0) < coalesce(c.first, f.found)
            )""",
        )
    )


def _fact_check(connections: Connections, engine: Engine, from_here: Cut, decoders: Decoders, progress: Shown) -> Check:
    """The line of ``fact_sales``. A fact that stems from a record before the cut is left out."""
    facts.fact_check(engine)
    if (first := _first_that_differs(engine, from_here)) is not None:
        load_earlier_sales(connections, engine, decoders, progress, first)
        cents = (f"f.{name} = round_even(e.{name} * 100, 0)::BIGINT" for name in facts.CENTS)
        same = " AND ".join([*(f"f.{name} IS NOT DISTINCT FROM e.{name}" for name in _VALUES), *cents])
        engine.execute(f"""
            CREATE OR REPLACE TABLE stored_earlier AS
            SELECT DISTINCT {IDENTITY} FROM fact_sales f JOIN earlier_sales e USING ({IDENTITY}) WHERE {same}
        """)
        for table in ("sales", "fact_sales"):
            engine.execute(f"DELETE FROM {table} WHERE ({IDENTITY}) IN (FROM stored_earlier)")
    return facts.fact_check(engine)


def _first_that_differs(engine: Engine, from_here: Cut) -> int | None:
    """The earliest ``event_time`` of a fact that is not as the first record behind the cut says; None if there is none.

    Only what happened until five minutes after the time can have a record before the cut.
    """
    names = [name for name, *_ in engine.execute("DESCRIBE fact_sales").fetchall()]
    differ = " OR ".join(f'w."{n}" IS DISTINCT FROM f."{n}"' for n in names)
    ((first,),) = engine.execute(
        f"SELECT min(f.event_time) FROM facts w JOIN fact_sales f USING ({IDENTITY})"
        f" WHERE f.event_time < {from_here.complete_us} AND ({differ})"
    ).fetchall()
    return None if first is None else int(first)


def _from(from_here: Cut) -> str:
    return f"{Column('', Format.TIME).show(from_here.complete_us)} or later"


def _noted(check: Check, note: str) -> Check:
    return replace(check, note=", ".join(filter(None, (check.note, note))))
