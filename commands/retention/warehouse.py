"""Detaches old months of facts, and deletes old windows that are final and rows of letters that Kafka has deleted."""

from collections.abc import Mapping
from datetime import datetime

import structlog
from sqlalchemy import Connection, Engine, text

from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.warehouse import postgres
from services.aggregator import tables

#: Rows of a transaction that deletes windows: it blocks no reader, and its locks and its log stay small.
_ROWS = 50_000
_log = structlog.get_logger(__name__)
_OLD_MONTHS = text("""
    SELECT name, partition::text AS relation, inhdetachpending AS is_half_done
    FROM fact_partitions JOIN pg_inherits ON inhrelid = partition AND inhparent = 'fact_sales'::regclass
    WHERE after_day <= (date_trunc('month', now() AT TIME ZONE 'UTC') - :months * interval '1 month')::date
    ORDER BY first_day
""")
_NOTE = text("""
    INSERT INTO kept_since VALUES ('windows', :since)
    ON CONFLICT (what) DO UPDATE SET since = greatest(kept_since.since, EXCLUDED.since)
""")


_SIZES = """
    WITH RECURSIVE sizes (size) AS (
        SELECT min(window_size) FROM {0}
        UNION ALL
        SELECT (SELECT min(window_size) FROM {0} WHERE window_size > size) FROM sizes WHERE size IS NOT NULL
    ) SELECT size FROM sizes WHERE size IS NOT NULL
"""


def old_months(engine: Engine, months: int) -> list[str]:
    """The attached partitions of `fact_sales` that ended so many months before the current one, by their names.

    Raises:
        Unavailable: Postgres does not answer.
    """
    with postgres.outages(engine), engine.connect() as connection:
        return [month.name for month in connection.execute(_OLD_MONTHS, {"months": months})]


def kept_since(engine: Engine, days: int) -> datetime:
    """The time from which on :func:`delete_windows` would keep windows.

    Raises:
        Unavailable: Postgres does not answer.
    """
    with postgres.outages(engine), engine.connect() as connection:
        return _since(connection, tables.known(connection), days)


def detach(engine: Engine, months: int) -> list[str]:
    """Detach the partitions of `fact_sales` that ended so many months before the current one; returns their names.

    They stay as tables. Readers and writers of `fact_sales` are not blocked; a long transaction is waited for.

    Raises:
        Unavailable: Postgres does not answer.
    """
    with postgres.outages(engine), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        old = connection.execute(_OLD_MONTHS, {"months": months}).all()
        for month in old:
            how = "FINALIZE" if month.is_half_done else "CONCURRENTLY"
            connection.execute(text(f"ALTER TABLE fact_sales DETACH PARTITION {month.relation} {how}"))
            _log.info("month archived", table=month.relation)
    return [month.name for month in old]


def delete_windows(engine: Engine, days: int) -> tuple[datetime, int]:
    """Delete the windows that begin more than so many days ago; returns since when they are kept, and how many went.

    Where one of these may still change, those from it on are kept.

    Raises:
        Unavailable: Postgres does not answer.
    """
    deleted = 0
    with postgres.outages(engine), engine.connect() as connection:
        with connection.begin():
            of_windows = tables.known(connection)
            since = _since(connection, of_windows, days)
            # Before the rows go: `verify` then takes none of them for a loss.
            connection.execute(_NOTE, {"since": since})
        for table in (*of_windows, "window_revisions"):
            # By size, so that each part is found by the key.
            delete = text(f"""
                DELETE FROM {table} WHERE ctid = ANY(ARRAY(
                    SELECT ctid FROM {table} WHERE window_size = :size AND window_start < :since LIMIT {_ROWS}))
            """)
            with connection.begin():
                sizes = connection.execute(text(_SIZES.format(table))).scalars().all()
            for size in sizes:
                some = _ROWS
                while some == _ROWS:
                    with connection.begin():
                        some = connection.execute(delete, {"size": size, "since": since}).rowcount
                    deleted += some
    return since, deleted


def delete_letters(engine: Engine, begins: Mapping[TopicPartitionKey, int]) -> int:
    """Delete the rows of `dead_letters` whose letters are gone from their topics; returns how many.

    ``begins``: where the logs of dead letter topics begin.

    Raises:
        Unavailable: Postgres does not answer.
    """
    delete = text('DELETE FROM dead_letters WHERE (entity, partition) = (:entity, :partition) AND "offset" < :begin')
    gone = [
        {"entity": topic.removesuffix(".dlq"), "partition": partition, "begin": begin}
        for (topic, partition), begin in begins.items()
        if begin
    ]
    deleted = 0
    for log in gone:
        with postgres.outages(engine), engine.begin() as connection:
            deleted += connection.execute(delete, log).rowcount
    return deleted


def _since(connection: Connection, of_windows: list[str], days: int) -> datetime:
    """The begin of the day so many days ago; earlier, if a window that may still change begins earlier."""
    changing = [f"(SELECT min(window_start) FROM {table} WHERE state IN ('open', 'fired'))" for table in of_windows]
    midnight = "date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - :days * interval '1 day'"
    since: datetime = connection.execute(
        text(f"SELECT least({', '.join([midnight, *changing])})"), {"days": days}
    ).scalar_one()
    return since
