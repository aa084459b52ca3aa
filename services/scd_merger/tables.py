"""The edge to Postgres: read a batch's neighbours, write a plan. All SQL follows from the declaration.

Every statement is set-based and finds its rows by index, so that a batch costs the same whatever a key's history.
"""

import io
from collections.abc import Mapping

import polars as pl
from sqlalchemy import Connection, text

from retail_stream import postgres
from services.scd_merger.dimensions import KEY_DTYPE, TIME_DTYPE, Dimension, Kind
from services.scd_merger.merge import FROM, TO, Neighbours, Plan

# Joins go from the few rows of the batch to the index of a table that may be large and newly filled (no statistics).
_PLANNER = text("""
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)
""")
_CENTS = 100


class DimensionTable:
    """The two tables of one dimension in Postgres."""

    def __init__(self, dimension: Dimension) -> None:
        """``dimension``: the declaration that the migration's tables follow."""
        self.dimension = dimension
        d, key, time = dimension, dimension.key, dimension.sequence
        attributes = ", ".join(f'"{a}"' for a in d.attributes)
        self._probes, self._spans, self._rewritten = (f"{d.entity}_{n}" for n in ("probes", "spans", "rewritten"))
        #: temporary tables in the columns' own types
        self._prepare = [
            f"CREATE TEMP TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS AS SELECT {what} WITH NO DATA"
            for name, what in {
                self._probes: f"{key}, {time} FROM {d.changes_table}",
                self._spans: f"''::text AS step, {key}, {FROM}, {TO} FROM {d.table}",
                self._rewritten: f"{key}, {FROM}, {attributes} FROM {d.table}",
            }.items()
        ]
        texts = d.of_kind(Kind.TEXT)
        self._near_changes = _near(d.changes_table, self._probes, key, time, time, list(d.change_schema), texts)
        self._near_versions = _near(d.table, self._probes, key, time, FROM, [key, FROM, TO], [])
        same = f"d.{key} = s.{key} AND d.{FROM} = s.{FROM}"
        self._delete = f"DELETE FROM {d.table} d USING {self._spans} s WHERE {same} AND s.step = 'vanished'"
        self._retime = f"UPDATE {d.table} d SET {TO} = s.{TO} FROM {self._spans} s WHERE {same} AND s.step = "
        values = ", ".join(f'"{a}" = s."{a}"' for a in d.attributes)
        self._rewrite = f"UPDATE {d.table} d SET {values} FROM {self._rewritten} s WHERE {same}"
        self._forget = (
            f"DELETE FROM {d.changes_table} c USING {self._probes} p WHERE c.{key} = p.{key} AND c.{time} = p.{time}"
        )

    def gather(self, connection: Connection, changes: pl.DataFrame) -> Neighbours:
        """Read what :func:`services.scd_merger.merge.merge` needs to know about ``changes``, a frame of changes."""
        d = self.dimension
        for statement in self._prepare:
            connection.execute(text(statement))
        connection.execute(_PLANNER)
        probes = changes.select(d.key, d.sequence).unique().sort(d.key, d.sequence)
        postgres.copy(connection, self._probes, probes, times=[d.sequence])
        span = {d.key: KEY_DTYPE, FROM: TIME_DTYPE, TO: TIME_DTYPE}
        return Neighbours(
            changes=_read(connection, self._near_changes, d.change_schema, [d.sequence, *d.of_kind(Kind.TIME)]),
            versions=_read(connection, self._near_versions, span, [FROM, TO]),
        )

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
        if plan.opened.height:
            self._copy_versions(connection, d.table, plan.opened)
        if plan.replaced.height:
            connection.execute(text(f"TRUNCATE {self._probes}"))
            postgres.copy(connection, self._probes, plan.replaced.select(d.key, d.sequence), times=[d.sequence])
            connection.execute(text(self._forget))
        won = pl.concat([plan.added, plan.replaced])
        if won.height:
            postgres.copy(connection, d.changes_table, won, times=[d.sequence, *d.of_kind(Kind.TIME)])

    def _copy_versions(self, connection: Connection, table: str, versions: pl.DataFrame) -> None:
        d = self.dimension
        # cents / 100 is written with the two decimals that numeric(14,2) holds exactly
        cents = [(pl.col(m) * _CENTS).round(0, mode="half_to_even") / _CENTS for m in d.of_kind(Kind.MONEY)]
        times = [c for c in (FROM, TO, *d.of_kind(Kind.TIME)) if c in versions.columns]
        postgres.copy(connection, table, versions.with_columns(cents), times=times)


def _near(table: str, probes: str, key: str, probe_time: str, time: str, columns: list[str], texts: list[str]) -> str:
    """For every probe the last row of its key before its time and the first two from it on; rows may repeat.

    The answer is a single CSV text, or NULL for no rows: COPY would send a message per row, and most of a batch's time
    would go into receiving them.
    """
    quoted = """'"' || replace(near."{0}", '"', '""') || '"'"""
    cells = ((quoted if c in texts else 'CAST(near."{0}" AS text)').format(c) for c in columns)
    line = " || ',' || ".join(f"coalesce({cell}, '')" for cell in cells)
    names = ", ".join(f'"{c}"' for c in columns)
    this_key = f"FROM {table} WHERE {key} = p.{key} AND {time}"
    return f"""
        SELECT string_agg({line}, chr(10))
        FROM {probes} p CROSS JOIN LATERAL (
            (SELECT {names} {this_key} < p.{probe_time} ORDER BY {time} DESC LIMIT 1)
            UNION ALL
            (SELECT {names} {this_key} >= p.{probe_time} ORDER BY {time} LIMIT 2)
        ) near
    """


def _read(connection: Connection, sql: str, schema: Mapping[str, pl.DataType], times: list[str]) -> pl.DataFrame:
    """The CSV text that ``sql`` answers with, as a frame; ``times`` become int64 microseconds. Sessions speak UTC."""
    csv = connection.execute(text(sql)).scalar_one()
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
