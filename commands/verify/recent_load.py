"""Loads what `verify --since` compares, in the order of :mod:`commands.verify.load`."""

from collections.abc import Mapping
from functools import partial

from sqlalchemy import Engine

from commands.audit import engine as duck
from commands.audit import rule_sets, snapshot
from commands.audit.layouts import Holds, holds
from commands.audit.planted import PlantedTable
from commands.audit.raw_table import RawTable
from commands.audit.reading import TopicTable, ends, load
from commands.audit.results import RiseTable, WindowTable, outbox_records
from commands.audit.rule_sets import RuleSets
from commands.audit.snapshot import micros
from commands.audit.versions import attributes
from commands.progress import Shown
from commands.verify import retained, warehouse
from commands.verify.load import Decoders, committed, offsets_table
from commands.verify.shaping import shaping
from commands.verify.shown import PLACES
from commands.verify.since import AHEAD_US, Cut
from commands.verify.stored import REVISIONS
from commands.verify.tables import CleanTable, DeadLetterTable, recode
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.kafka.offsets import TopicPartitionKey, first_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import Result
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import postgres

#: What only a full run compares.
_LEFT_OUT = frozenset(
    {
        *(REVISIONS, "dead_letters", "baskets", *(f"{one}_places" for one in PLACES)),
        *("sales_enriched", "late_sales", "pipeline_state", "shown_positions", "outbox_end", "stream_clock"),
        *("catalogue", "fact_partitions", "attached", "topics_read", "sale_identities", "replays", "replayed_rises"),
        *(f"{e}_{name}" for e in DIMENSIONS for name in ("current", "as_of", "as_of_moment", "changes")),
    }
)
_IDENTITIES = 10_000


def gather(
    connections: Connections, engine: duck.Engine, cut: Cut, decoders: Decoders, progress: Shown
) -> Mapping[Entity, RuleSets]:
    """Fill the tables of a full run, with the records since ``cut`` and the rows that follow from them.

    Makes ``cuts`` (topic, partition, cut) and ``found`` (topic, partition, found), too, and for each dimension
    ``known_<entity>``, the ids that the warehouse knows, and ``before_<entity>``, the last stored change of each id
    before the time: ``id``, ``moment``, ``deleted`` and the attributes. A cut in ``cuts`` may be
    behind that of ``cut``.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """
    committed(connections, engine)
    early = wait_for(lambda: ends(connections, [Result.WINDOWS]), COMMAND_PATIENCE_S)
    offsets_table(engine, "published", ("topic", "partition", "end_offset"), early)
    offsets_table(engine, "cuts", ("topic", "partition", "cut"), dict(cut.raw))
    offsets_table(engine, "found", ("topic", "partition", "found"), dict(cut.found))
    postgres_engine = postgres.engine(connections.database_url)
    try:
        snapshot.patiently(lambda: _warehouse(postgres_engine, engine, cut, progress))
    finally:
        postgres_engine.dispose()
    return _topics(connections, engine, cut, decoders, progress)


def _warehouse(postgres_engine: Engine, engine: duck.Engine, cut: Cut, progress: Shown) -> None:
    with snapshot.reading(postgres_engine) as connection:
        warehouse.read(connection, engine, progress, _queries(cut))
        since = f"WHERE window_start >= {_instant(str(cut.complete_us))}"
        every = warehouse.windows(settings := shaping(engine))
        warehouse.read(connection, engine, progress, {g.table: f"{every[g.table]} {since}" for g in settings.groupings})


def _queries(cut: Cut) -> dict[str, str]:
    start = _instant(str(cut.complete_us))
    only = {
        "fact_sales": f"event_time >= {start}",
        "outbox": f"topic IN ('{Result.WATERMARKS}', '{Result.WINDOWS}')",
        **{f"dim_{e}": f"valid_from >= {start}" for e in DIMENSIONS},
    }
    queries = {name: query for name, query in warehouse.QUERIES.items() if name not in _LEFT_OUT}
    queries |= {name: f"{queries[name]} WHERE {condition}" for name, condition in only.items()}
    for entity in DIMENSIONS:
        key, time = FIELDS[entity].key, FIELDS[entity].time
        shown = (micros(a) if holds(entity)[a] is Holds.TIME else a for a in attributes(entity))
        queries[f"known_{entity}"] = f"SELECT DISTINCT {key} FROM {entity}_changes"
        queries[f"before_{entity}"] = f"""
            SELECT DISTINCT ON ({key}) {key} AS id, {micros(time, "moment")}, deleted, {", ".join(shown)}
            FROM {entity}_changes WHERE {time} < {start} ORDER BY {key}, {time} DESC
        """
    return queries


def _instant(us: str) -> str:
    """SQL of Postgres: microseconds as a timestamptz, exact also for the year 9999."""
    return f"(timestamptz 'epoch' + {us} / 1000000 * interval '1 second' + {us} % 1000000 * interval '1 microsecond')"


def _topics(
    connections: Connections, engine: duck.Engine, cut: Cut, decoders: Decoders, progress: Shown
) -> Mapping[Entity, RuleSets]:
    derived = [*map(topics.clean, Entity), *map(topics.dlq, Entity), Result.WATERMARKS.value, Result.WINDOWS.value]
    until = wait_for(lambda: ends(connections, derived), COMMAND_PATIENCE_S)
    until |= wait_for(lambda: ends(connections, map(topics.raw, Entity)), COMMAND_PATIENCE_S)
    books = rule_sets.read(connections)
    # All of them: one that was recorded long ago may hold for the records of today.
    rises = RiseTable(engine, decoders.of(Result.WATERMARKS))
    windows = WindowTable(engine, decoders.of(Result.WINDOWS))
    tables: dict[str, TopicTable] = {Result.WATERMARKS: rises, Result.WINDOWS: windows}
    for entity in Entity:
        tables[topics.raw(entity)] = RawTable(engine, entity, decoders.of(topics.raw(entity)), books[entity])
        tables[topics.clean(entity)] = CleanTable(engine, entity)
        tables[topics.dlq(entity)] = DeadLetterTable(engine, entity)
    begins = {**cut.begins, **cut.raw, **_first_results(connections, cut)}
    load(connections, until, tables, progress, "reading the topics, records", begins)
    retained.require_kept(connections, {**cut.found, **cut.raw})
    retained.letters(connections, engine, cut.begins)
    rises.take(outbox_records(engine, Result.WATERMARKS))
    windows.take(outbox_records(engine, Result.WINDOWS))
    engine.execute("DELETE FROM window_results WHERE window_start < ?", [cut.complete_us])
    for entity in Entity:
        move_cuts(engine, entity, cut.since_ms)
        drop_older(engine, entity)
        progress.say(f"comparing {topics.clean(entity)}")
        recode(engine, entity, decoders.of(topics.raw(entity)), decoders.of(topics.clean(entity)))
    return books


def _first_results(connections: Connections, cut: Cut) -> dict[TopicPartitionKey, int]:
    """Where the results of windows begin that no sale before the cut is in, also where clocks differ by minutes."""

    def find() -> dict[TopicPartitionKey, int]:
        since_ms = max(cut.since_ms - AHEAD_US // 1000, 0)
        return first_offsets(connections, topic_partitions(connections, Result.WINDOWS), since_ms)

    return wait_for(find, COMMAND_PATIENCE_S)


def move_cuts(engine: duck.Engine, entity: Entity, since_ms: int) -> None:
    """Move each cut to the first loaded raw record that is not older than the time, and delete those before it.

    The broker finds offsets among aborted records, too. A transaction that failed and was sent again has all its
    records behind the failed ones::

        aborted  :10 :20 :30 :40      committed  :10 :20 :30 :40
                          ▲ the broker's cut at :30       ▲ the first record since :30
    """
    raw = f"raw_{entity} r WHERE k.topic = '{entity}.raw' AND r.partition = k.partition"
    engine.execute(f"""
        UPDATE cuts k SET cut = coalesce(
            (SELECT min(r."offset") FROM {raw} AND r.ts >= {since_ms * 1000}),
            (SELECT max(r."offset") + 1 FROM {raw}), cut)
        WHERE k.topic = '{entity}.raw'
    """)
    engine.execute(f"""
        DELETE FROM raw_{entity} r USING cuts k
        WHERE k.topic = '{entity}.raw' AND k.partition = r.partition AND r."offset" < k.cut
    """)


def drop_older(engine: duck.Engine, entity: Entity) -> None:
    """Delete the loaded clean records and dead letters whose raw record is before the cut.

    One that names no raw record is deleted if it stands before the first record that is not older than the time.
    """
    for table, layer, names_one, partition in (
        ("clean", "clean", "t.source_offset IS NOT NULL", "t.partition"),
        ("dead", "dlq", f"t.source_topic = '{entity}.raw' AND t.source_offset IS NOT NULL", "t.source_partition"),
    ):
        engine.execute(f"""
            DELETE FROM {table}_{entity} t WHERE CASE WHEN coalesce({names_one}, false) THEN t.source_offset < (
                SELECT cut FROM cuts k WHERE k.topic = '{entity}.raw' AND k.partition = {partition}
            ) ELSE t.offset < (
                SELECT found FROM found f WHERE f.topic = '{entity}.{layer}' AND f.partition = t.partition
            ) END
        """)


def add_facts(connections: Connections, engine: duck.Engine, cut: Cut) -> None:
    """Add to ``fact_sales`` the stored facts of ``sales`` that happened before the loaded ones.

    They come from another snapshot, which changes nothing: a fact is never changed, and all sales of the first snapshot
    have one by then.

    Raises:
        Unavailable: Postgres did not answer for 30 s.
    """
    earlier = engine.cursor()
    earlier.execute(
        "SELECT DISTINCT transaction_id, event_time, store_id FROM sales WHERE event_time < ?", [cut.complete_us]
    )
    postgres_engine = postgres.engine(connections.database_url)
    try:
        while batch := earlier.fetchmany(_IDENTITIES):
            ids, times, stores = ("{" + ",".join(map(str, column)) + "}" for column in zip(*batch, strict=True))
            query = f"""
                {warehouse.QUERIES["fact_sales"]} WHERE (transaction_id, event_time, store_id) IN (
                    SELECT id, {_instant("us")}, store
                    FROM unnest('{ids}'::bigint[], '{times}'::bigint[], '{stores}'::integer[]) AS u (id, us, store))
            """
            wait_for(partial(_load, postgres_engine, engine, "added_facts", query), COMMAND_PATIENCE_S)
            engine.execute("INSERT INTO fact_sales BY NAME SELECT * FROM added_facts")
    finally:
        postgres_engine.dispose()


def _load(postgres_engine: Engine, engine: duck.Engine, table: str, query: str) -> None:
    with snapshot.reading(postgres_engine) as connection:
        snapshot.load(connection, engine, table, query)


def load_earlier_sales(
    connections: Connections, engine: duck.Engine, decoders: Decoders, progress: Shown, event_time: int
) -> None:
    """Make ``earlier_sales``: the raw sales before the cut whose ``event_time`` may be this (microseconds) or later.

    Raises:
        Unavailable: no broker answered for 30 s.
    """
    raw = topics.raw(Entity.SALES)
    cuts = engine.execute("SELECT topic, partition, cut FROM cuts WHERE topic = ?", [raw]).fetchall()
    until = {(topic, partition): offset for topic, partition, offset in cuts}
    since_ms = max((event_time - AHEAD_US) // 1000, 0)
    begins = wait_for(lambda: first_offsets(connections, until, since_ms), COMMAND_PATIENCE_S)
    book = rule_sets.read(connections)[Entity.SALES]
    table = RawTable(engine, Entity.SALES, decoders.of(raw), book, "earlier_sales")
    load(connections, until, {raw: table}, progress, "looking for earlier records of these sales", begins)


def load_ledger(connections: Connections, engine: duck.Engine, decoders: Decoders, progress: Shown) -> None:
    """Make ``planted``: the generator's ledger.

    Raises:
        Unavailable: a server did not answer for 30 s.
    """
    until = wait_for(lambda: ends(connections, [Result.FAULTS]), COMMAND_PATIENCE_S)
    tables: dict[str, TopicTable] = {Result.FAULTS: PlantedTable(engine, decoders.of(Result.FAULTS))}
    load(connections, until, tables, progress, "reading the ledger")
