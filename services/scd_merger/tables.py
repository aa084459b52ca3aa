"""The edge to Postgres: read the neighbours of a batch, write a plan. All SQL follows from the declaration.

Every statement is set-based and finds its rows by an index, so the cost of a batch does not depend on the length of
histories.
"""

import io
from collections.abc import Container, Iterable, Mapping

import polars as pl
from sqlalchemy import Connection, text

from retail_stream.kafka.batches import EXTRA
from retail_stream.warehouse import postgres
from services.scd_merger.dimensions import KEY_DTYPE, TIME_DTYPE, AttributeType, Dimension, cents
from services.scd_merger.merge import FROM, TO, Neighbours, Plan

# A table may be large and newly filled, without statistics: force joins from the few rows of the batch to its index.
_PLANNER = text("""
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)
""")
# Batches of different partitions have no key in common and share the lock; a change of keys of any partition waits.
_SHARED = text("SELECT pg_advisory_xact_lock_shared(hashtext(:table))")
_ALONE = text("SELECT pg_advisory_xact_lock(hashtext(:table))")


#: What a batch may read of its neighbours. More would be too much for one value of Postgres (1 GB) and for our memory.
MOST_BYTES = 2**26
_LARGEST = 10**9


class BatchTooLarge(Exception):
    """The neighbours of a batch are larger than MOST_BYTES; those of its halves may not be."""


class DimensionTable:
    """The two tables of one dimension in Postgres."""

    def __init__(self, dimension: Dimension) -> None:
        """``dimension``: the declaration that the tables of the migration follow."""
        self.dimension = dimension
        d, key, time = dimension, dimension.key, dimension.sequence
        attributes = ", ".join(map(_quoted, d.attributes))
        self._probes, self._spans, self._rewritten, self._refreshed = (
            f"{d.entity}_{n}" for n in ("probes", "spans", "rewritten", "refreshed")
        )
        #: Temporary tables with the types of the columns.
        self._prepare = [
            f"CREATE TEMP TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS AS SELECT {what} WITH NO DATA"
            for name, what in {
                self._probes: f"{key}, {time} FROM {d.changes_table}",
                self._spans: f"''::text AS step, {key}, {FROM}, {TO} FROM {d.table}",
                self._rewritten: f"{key}, {FROM}, {attributes} FROM {d.table}",
                self._refreshed: ", ".join((key, FROM, *map(_quoted, d.untracked))) + f" FROM {d.table}",
            }.items()
        ]
        texts = {EXTRA, *d.of_type(AttributeType.TEXT)}
        self._near_changes = _near(d.changes_table, self._probes, key, time, time, list(d.change_schema), texts)
        self._near_versions = _near(d.table, self._probes, key, time, FROM, [key, FROM, TO, *d.untracked], texts)
        self._outdated = f"""
            SELECT * FROM {d.changes_table}
            WHERE {EXTRA} IS NOT NULL AND EXISTS (SELECT FROM json_object_keys({EXTRA}) k WHERE k = ANY(:names))
            LIMIT :most
        """
        self._outdated = _lines(d.change_schema, texts, f"({self._outdated}) near")
        same = f"d.{key} = s.{key} AND d.{FROM} = s.{FROM}"
        self._delete = f"DELETE FROM {d.table} d USING {self._spans} s WHERE {same} AND s.step = 'vanished'"
        self._retime = f"UPDATE {d.table} d SET {TO} = s.{TO} FROM {self._spans} s WHERE {same} AND s.step = "
        self._rewrite = f"UPDATE {d.table} d SET {_values(d.attributes)} FROM {self._rewritten} s WHERE {same}"
        self._refresh = f"UPDATE {d.table} d SET {_values(d.untracked)} FROM {self._refreshed} s WHERE {same}"
        self._forget = (
            f"DELETE FROM {d.changes_table} c USING {self._probes} p WHERE c.{key} = p.{key} AND c.{time} = p.{time}"
        )

    def gather(self, connection: Connection, changes: pl.DataFrame) -> Neighbours:
        """Read the stored neighbours of a frame of changes, for :func:`services.scd_merger.merge.merge`.

        Raises:
            BatchTooLarge: the neighbours of several changes are too large for one transaction.
        """
        d, one = self.dimension, changes.height == 1
        for statement in self._prepare:
            connection.execute(text(statement))
        connection.execute(_PLANNER)
        connection.execute(_SHARED, {"table": d.table})
        probes = changes.select(d.key, d.sequence).unique().sort(d.key, d.sequence)
        postgres.copy(connection, self._probes, probes, times=[d.sequence])
        span = {d.key: KEY_DTYPE, FROM: TIME_DTYPE, TO: TIME_DTYPE, **d.dtypes(d.untracked)}
        times = d.of_type(AttributeType.TIME)
        return Neighbours(
            changes=_read(connection, self._near_changes, d.change_schema, [d.sequence, *times], one),
            versions=_read(
                connection, self._near_versions, span, [FROM, TO, *(t for t in times if t in d.untracked)], one
            ),
        )

    def outdated(self, connection: Connection, most: int) -> pl.DataFrame:
        """Up to ``most`` stored changes, of about MOST_BYTES, whose ``extra`` holds attributes that have columns.

        Locks the dimension against other writers until the transaction ends.
        """
        d = self.dimension
        connection.execute(_ALONE, {"table": d.table})
        parameters = {"names": list(d.attributes), "most": most, "bytes": MOST_BYTES}
        lines, _ = connection.execute(text(self._outdated), parameters).one()
        return _parsed(lines, d.change_schema, [d.sequence, *d.of_type(AttributeType.TIME)])

    def apply(self, connection: Connection, plan: Plan) -> None:
        """Write a plan, in the transaction that gathered for it."""
        d = self.dimension
        steps = {"vanished": plan.vanished, "shrunk": plan.shrunk, "extended": plan.extended}
        spans = pl.concat(frame.select(pl.lit(step).alias("step"), "*") for step, frame in steps.items())
        if spans.height:
            postgres.copy(connection, self._spans, spans, times=[FROM, TO])
        if plan.vanished.height:
            connection.execute(text(self._delete))
        for step in ("shrunk", "extended"):
            if steps[step].height:
                connection.execute(text(f"{self._retime} '{step}'"))
        if plan.rewritten.height:
            self._copy_versions(connection, self._rewritten, plan.rewritten)
            connection.execute(text(self._rewrite))
        if plan.refreshed.height:
            self._copy_versions(connection, self._refreshed, plan.refreshed)
            connection.execute(text(self._refresh))
        if plan.opened.height:
            self._copy_versions(connection, d.table, plan.opened)
        if plan.replaced.height:
            connection.execute(text(f"TRUNCATE {self._probes}"))
            postgres.copy(connection, self._probes, plan.replaced.select(d.key, d.sequence), times=[d.sequence])
            connection.execute(text(self._forget))
        won = pl.concat([plan.added, plan.replaced])
        if won.height:
            postgres.copy(connection, d.changes_table, won, times=[d.sequence, *d.of_type(AttributeType.TIME)])

    def _copy_versions(self, connection: Connection, table: str, versions: pl.DataFrame) -> None:
        d = self.dimension
        money = [cents(pl.col(m)) for m in d.of_type(AttributeType.MONEY) if m in versions.columns]
        times = [c for c in (FROM, TO, *d.of_type(AttributeType.TIME)) if c in versions.columns]
        postgres.copy(connection, table, versions.with_columns(money), times=times)


def _quoted(column: str) -> str:
    return f'"{column}"'


def _values(columns: Iterable[str]) -> str:
    return ", ".join(f'"{c}" = s."{c}"' for c in columns)


def _lines(columns: Iterable[str], texts: Container[str], near: str) -> str:
    """SQL for the rows of a source called ``near`` as one CSV text (NULL for none), and the bytes of all of them.

    The text holds the rows that begin before ``:bytes``, at least one. COPY sends a message for each row; to receive
    them would take most of the time of a batch.
    """
    quoted = """'"' || replace(near."{0}"::text, '"', '""') || '"'"""
    cells = ((quoted if c in texts else 'CAST(near."{0}" AS text)').format(c) for c in columns)
    line = " || ',' || ".join(f"coalesce({cell}, '')" for cell in cells)
    return f"""
        SELECT string_agg(line, chr(10)) FILTER (WHERE upto - size < :bytes), max(upto)
        FROM (SELECT line, size, sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS upto
              FROM (SELECT line, octet_length(line) + 1 AS size FROM (SELECT {line} AS line FROM {near}) l) s) u
    """


def _near(
    table: str, probes: str, key: str, probe_time: str, time: str, columns: list[str], texts: Container[str]
) -> str:
    """SQL for the last row of each probe's key before its time and the first two from then on; rows may repeat."""
    names = ", ".join(map(_quoted, columns))
    this_key = f"FROM {table} WHERE {key} = p.{key} AND {time}"
    near = f"""
        {probes} p CROSS JOIN LATERAL (
            (SELECT {names} {this_key} < p.{probe_time} ORDER BY {time} DESC LIMIT 1)
            UNION ALL
            (SELECT {names} {this_key} >= p.{probe_time} ORDER BY {time} LIMIT 2)
        ) near
    """
    return _lines(columns, texts, near)


def _read(
    connection: Connection, sql: str, schema: Mapping[str, pl.DataType], times: list[str], one: bool
) -> pl.DataFrame:
    """The rows of a query of :func:`_lines`; ``one``: those of one change, which has no halves."""
    most = _LARGEST if one else MOST_BYTES
    lines, size = connection.execute(text(sql), {"bytes": most}).one()
    if size is not None and size > most:
        raise BatchTooLarge
    return _parsed(lines, schema, times)


def _parsed(csv: str | None, schema: Mapping[str, pl.DataType], times: list[str]) -> pl.DataFrame:
    """A CSV text of :func:`_lines` as a frame; ``times``, in UTC, become int64 microseconds."""
    if csv is None:
        return pl.DataFrame(schema=schema)
    flags = [c for c, dtype in schema.items() if dtype == pl.Boolean()]
    as_text = dict.fromkeys([*times, *flags], pl.String())
    raw = pl.read_csv(io.BytesIO(csv.encode()), has_header=False, schema={**schema, **as_text})
    return raw.with_columns(
        *(pl.col(c) == "true" for c in flags),
        *(
            pl.col(c).str.strip_suffix("+00").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us").cast(pl.Int64)
            for c in times
        ),
    )
