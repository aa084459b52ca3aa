"""`retail-stream rebuild`: empty the warehouse and keep the topics; merger and aggregator fill it again.

Services may run meanwhile. The epochs of all partitions are raised, so a worker that knows the old positions is fenced,
claims its partitions anew and begins at offset 0. The id of the warehouse is new: what the old one published stays in
the topics, and does not belong to the new one.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from sqlalchemy import Connection, Engine, text

from retail_stream import topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.kafka.offsets import end_offsets, first_offsets, require_topics, topic_partitions
from retail_stream.kafka.topic_ids import topic_ids
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for
from retail_stream.warehouse import ids, postgres, topics_read
from services.aggregator import declared, tables
from services.aggregator.relay import LOCK, Relay

#: The tables that lose all rows, beside those of windows.
#: The others keep theirs: epochs, settings, months of facts and the schema's version.
EMPTIED = (
    "fact_sales",
    "late_sales",
    "stored_before",
    "window_revisions",
    "dead_letters",
    "sale_identities",
    "replayed_rises",
    "replays",
    "outbox",
    "topics_read",
    *(table for e in DIMENSIONS for table in (f"dim_{e}", f"{e}_changes")),
)
#: What is begun anew in the tables that keep their rows.
_BEGUN_ANEW = (
    "UPDATE partition_watermarks SET epoch = epoch + 1, watermark = NULL, idle = false, idle_until = NULL",
    "UPDATE consumer_positions SET epoch = epoch + 1, next_offset = 0, source_offset = -1, updated_at = now()",
    "UPDATE stream_watermark SET watermark = NULL, advanced_at = NULL",
    f"UPDATE warehouse_id SET id = {ids.NEW}",
)
_AGGREGATORS = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'retail_stream.aggregator'
""")
_END_RELAY = text("""
    SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 1
      AND l.classid = CAST(:high AS oid) AND l.objid = CAST(:low AS oid) AND l.pid <> pg_backend_pid()
""")
_LOOK_S = 0.1


@dataclass(frozen=True)
class Plan:
    """What a rebuild does: ``records`` to read again by topic, and ``changed`` settings as name → (stored, wanted)."""

    address: str
    facts: int
    records: Mapping[str, int]
    changed: Mapping[str, tuple[str, str]]


def plan(connections: Connections, wanted: Mapping[str, str], *, from_raw: bool = False) -> Plan:
    """Look at topics and warehouse; nothing is changed.

    ``wanted``: variables that shape results, as the aggregator will have them; those that are absent stay as they are.
    ``from_raw``: the clean topics are derived again from the raw ones first.

    Raises:
        Unavailable: a server did not answer for 30 s.
        RetailStreamError: the tables are missing, or an aggregator runs with other settings than ``wanted``, or a topic
            was made anew and not ``from_raw``.
    """
    layer = topics.raw if from_raw else topics.clean
    records = wait_for(lambda: _records(connections, [layer(e) for e in Entity]), COMMAND_PATIENCE_S)
    ids = {} if from_raw else wait_for(lambda: _ids(connections), COMMAND_PATIENCE_S)
    engine = postgres.engine(connections.database_url)
    try:
        return wait_for(lambda: _plan(engine, records, wanted, ids), COMMAND_PATIENCE_S)
    finally:
        engine.dispose()


def empty(connections: Connections) -> None:
    """Empty the warehouse in one transaction, after the results that wait in its outbox are published.

    The tables of windows are then those that `schemas/windows.toml` declares.

    Raises:
        SettingsError: that file is not valid; nothing was changed.
        Unavailable: a server did not answer for 30 s, or another session kept a lock for so long; nothing was changed.
    """
    declarations = declared.load()
    engine = postgres.engine(connections.database_url, lock_timeout="20s")
    try:
        wait_for(lambda: _empty(connections, engine, declarations), COMMAND_PATIENCE_S)
    finally:
        engine.dispose()


def show(planned: Plan, console: Console) -> None:
    """Print what a rebuild does."""
    kept = "raw topics" if topics.raw(Entity.SALES) in planned.records else "topics"
    parts = ", ".join(f"{n:,} of {topic}" for topic, n in planned.records.items())
    for line in (
        f"This empties the warehouse of Postgres at {planned.address}: ~{planned.facts:,} facts, versions and windows.",
        f"The {kept} stay. The services then read {sum(planned.records.values()):,} records again: {parts}.",
    ):
        console.print(line, soft_wrap=True)
    for name, (stored, wanted) in planned.changed.items():
        goes_on = "The aggregator reads the file when it starts." if name == declared.NAME else ""
        goes_on = goes_on or f"Start the aggregator with {name}={wanted} next."
        console.print(f"{name} was {stored!r}. {goes_on}", soft_wrap=True)


def _ids(connections: Connections) -> Mapping[str, str]:
    return topic_ids(connections, [name for e in Entity for name in (topics.raw(e), topics.clean(e))])


def _records(connections: Connections, names: Sequence[str]) -> Mapping[str, int]:
    require_topics(connections, names)
    places = topic_partitions(connections, *names)
    first, ends = first_offsets(connections, places), end_offsets(connections, places)
    return {name: sum(ends[p] - first[p] for p in places if p[0] == name) for name in names}


def _plan(engine: Engine, records: Mapping[str, int], wanted: Mapping[str, str], ids: Mapping[str, str]) -> Plan:
    with postgres.outages(engine), engine.connect() as connection:
        missing = [t for t in (*EMPTIED, "aggregations") if not _exists(connection, t)]
        if missing:
            raise RetailStreamError(
                f"Postgres at {postgres.address(engine)} has no table {missing[0]}; run `retail-stream init` first."
            )
        known = topics_read.stored(connection)
        if anew := [name for name, now in ids.items() if known.get(name, now) != now]:
            raise RetailStreamError(
                f"{anew[0]} was deleted and made again, so the clean topics do not hold what the raw ones hold. Stop "
                "the cleaner, run `retail-stream rebuild --from-raw`, and start the cleaner."
            )
        rows = connection.execute(text("SELECT name, value FROM stored_settings"))
        stored: dict[str, str] = {row.name: row.value for row in rows}
        changed = {n: (stored[n], value) for n, value in wanted.items() if stored.get(n, value) != value}
        if changed and connection.execute(_AGGREGATORS).scalar_one():
            name, (old, new) = next(iter(changed.items()))
            then = "" if name == declared.NAME else f" with {name}={new}"
            raise RetailStreamError(
                f"{name}={new!r}: an aggregator runs with {old!r}; stop it, run this command again, and start it{then}."
            )
        facts = connection.execute(
            text(
                "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_partition_tree('fact_sales') t "
                "JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf"
            )
        ).scalar_one()
    return Plan(postgres.address(engine), facts, records, changed)


def _exists(connection: Connection, table: str) -> bool:
    return bool(connection.execute(text("SELECT to_regclass(:t) IS NOT NULL"), {"t": table}).scalar_one())


def _empty(connections: Connections, engine: Engine, declarations: declared.Declarations) -> None:
    with postgres.outages(engine), engine.begin() as connection:
        # The lock of the aggregators: from here on the outbox does not grow.
        connection.execute(text("SELECT FROM stream_watermark FOR UPDATE"))
        with _publishing(connections, engine):
            _until(lambda: not _waiting(connection), f"Results wait in the outbox of {postgres.address(engine)}")
        # A relay knows the warehouse by its old id. It ends, and none leads until this transaction does.
        _until(lambda: _has_lock(connection), "Another session publishes the outbox")
        connection.execute(text(f"TRUNCATE {', '.join([*EMPTIED, *tables.known(connection)])}"))
        tables.make(connection, declarations)
        for update in _BEGUN_ANEW:
            connection.execute(text(update))


def _waiting(connection: Connection) -> bool:
    return bool(connection.execute(text("SELECT EXISTS (SELECT FROM outbox)")).scalar_one())


def _has_lock(connection: Connection) -> bool:
    connection.execute(_END_RELAY, {"high": LOCK >> 32, "low": LOCK & 0xFFFFFFFF})
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}).scalar_one())


@contextmanager
def _publishing(connections: Connections, engine: Engine) -> Iterator[None]:
    """A relay of our own, which leads unless one of an aggregator does."""
    stop = threading.Event()
    own = postgres.service_engine(connections.database_url, "outbox", stop)
    relay = Relay(connections, own, stop, is_emptied=True)
    thread = threading.Thread(target=relay.run, name="outbox", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        relay.wake.set()
        thread.join(COMMAND_PATIENCE_S)
        own.dispose()


def _until(done: Callable[[], bool], why: str) -> None:
    """Wait until something is done.

    Raises:
        Unavailable: it is not done after 30 s; ``why`` begins the sentence.
    """
    deadline = time.monotonic() + COMMAND_PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise Unavailable(f"{why}, for {COMMAND_PATIENCE_S:.0f} s now; nothing was changed.")
        time.sleep(_LOOK_S)
