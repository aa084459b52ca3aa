"""Rows of the tables of windows: read for an update by COPY, written back with arrays as parameters."""

import io

import polars as pl
from sqlalchemy import Connection

from retail_stream.warehouse import postgres
from services.aggregator.declared import CENTS
from services.aggregator.totals import END, ID, REVISION, SIZE, START, STATE, WINDOW_KEY, Grouping
from services.aggregator.warehouse import instant
from services.aggregator.watermark import Watermark
from services.aggregator.windows import SECOND


def read(
    connection: Connection, grouping: Grouping, touched: pl.DataFrame, past: Watermark, lateness: int
) -> pl.DataFrame:
    """Stored rows of a grouping (its ``rows``) that have a key of ``touched`` or are due.

    Of sessions, those that one of ``touched`` overlaps or touches. ``past``: the stream's watermark, in microseconds;
    None if no window can be due. ``lateness``: microseconds.
    """
    table, column = grouping.declared.table, grouping.declared.by
    frames = []
    if touched.height:
        names, bounds = (
            ("start, until", f"w.window_start <= {_time('until')} AND w.window_end >= {_time('start')}")
            if grouping.is_session
            else (
                "size, start",
                "w.window_size = make_interval(secs => k.size) AND w.window_start = to_timestamp(k.start)",
            )
        )
        query = f"""
            FROM unnest(%s::bigint[], %s::bigint[], %s::{_array_type(grouping)}) AS k ({names}, id)
            JOIN {table} w ON {bounds} AND w.{column} = k.id
        """
        frames.append(_copy(connection, grouping, query, _keys(grouping, touched)))
    # A sale in time may still join a session for the length of its gap.
    longer = grouping.windows[0].size if grouping.is_session else 0
    for state, time in (("open", past), ("fired", None if past is None else past - lateness - longer)):
        if time is not None:
            due = f"FROM {table} w WHERE state = '{state}' AND window_end <= %s"
            frames.append(_copy(connection, grouping, due, [instant(time)]))
    rows = [frame for frame in frames if frame.height]
    if len(rows) > 1:
        return pl.concat(rows).unique(WINDOW_KEY)
    return rows[0] if rows else pl.DataFrame(schema=grouping.rows)


def save(connection: Connection, grouping: Grouping, rows: pl.DataFrame, now: int) -> None:
    """Insert or update rows of a grouping (its ``rows``), in key order; ``now``: microseconds."""
    if rows.is_empty():
        return
    table, column, measures = grouping.declared.table, grouping.declared.by, grouping.measures
    sums = "".join(f"{m} * 0.01, " if m in CENTS else f"{m}, " for m in measures)
    names = [*measures, "revision", "state", "updated_at"]
    if grouping.is_session:
        keys, size = "start, until, id", f"interval '{grouping.windows[0].size // SECOND} s'"
        start, end = _time("start"), _time("until")
    else:
        keys, size = "size, start, id", "make_interval(secs => size)"
        start, end = "to_timestamp(start)", "to_timestamp(start + size)"
    updated = [*names, "window_end"] if grouping.is_session else names
    postgres.cursor(connection).execute(
        f"""
        INSERT INTO {table} (window_size, window_start, window_end, {column}, {", ".join(names)})
        SELECT {size}, {start}, {end}, id, {sums}revision, state, %s
        FROM unnest(%s::bigint[], %s::bigint[], %s::{_array_type(grouping)}, {"%s::bigint[], " * len(measures)}
                    %s::integer[], %s::text[])
            AS r ({keys}, {"".join(f"{m}, " for m in measures)}revision, state)
        ON CONFLICT (window_size, window_start, {column}) DO UPDATE
        SET {", ".join(f"{n} = EXCLUDED.{n}" for n in updated)}
        """,
        [instant(now), *_keys(grouping, rows), *(_array(rows[c]) for c in (*measures, REVISION, STATE))],
    )


def delete(connection: Connection, grouping: Grouping, rows: pl.DataFrame) -> None:
    """Delete rows of sessions."""
    if rows.is_empty():
        return
    postgres.cursor(connection).execute(
        f"""
        DELETE FROM {grouping.declared.table} w
        USING unnest(%s::bigint[], %s::bigint[], %s::{_array_type(grouping)}) AS k (start, until, id)
        WHERE w.window_start = {_time("start")} AND w.{grouping.declared.by} = k.id
        """,
        _keys(grouping, rows),
    )


def _array_type(grouping: Grouping) -> str:
    return {"int": "integer[]", "long": "bigint[]", "string": "text[]"}[grouping.declared.holds]


def _time(micros: str) -> str:
    """SQL: microseconds since 1970 as a timestamptz, exact in all years."""
    return f"(to_timestamp({micros} / {SECOND}) + mod({micros}, {SECOND}) * interval '1 microsecond')"


def _keys(grouping: Grouping, rows: pl.DataFrame) -> list[object]:
    """The columns of the key as parameters: of sessions start, end and id, in microseconds.

    Else size, start and id, in seconds: exact for the bounds of windows.
    """
    bounds = [rows[START], rows[END]] if grouping.is_session else [rows[c] // SECOND for c in (SIZE, START)]
    ids = rows[ID]
    # The driver quotes texts; a literal of numbers is quicker.
    return [*map(_array, bounds), ids.to_list() if ids.dtype == pl.String else _array(ids)]


def _array(column: pl.Series) -> str:
    """A column of numbers or states as a literal of a Postgres array."""
    return "{" + str(column.cast(pl.String).str.join(",").item()) + "}"


def _copy(connection: Connection, grouping: Grouping, source: str, parameters: list[object]) -> pl.DataFrame:
    sums = "".join(f"(w.{m} * 100)::bigint, " if m in CENTS else f"w.{m}, " for m in grouping.measures)
    column = f"w.{grouping.declared.by}"
    # In hex, a text is the same in any format.
    number = f"encode(convert_to({column}, 'UTF8'), 'hex')" if grouping.is_text else column
    end = f"{_micros('window_end')}, " if grouping.is_session else ""
    statement = f"""
        COPY (SELECT {_micros("window_size")}, {_micros("window_start")},
                     {number}, {sums}{end}w.revision, w.state {source}) TO STDOUT (FORMAT csv)
    """
    with postgres.cursor(connection) as cursor, cursor.copy(statement, parameters) as rows:
        content = b"".join(bytes(block) for block in rows)
    if not content:
        return pl.DataFrame(schema=grouping.rows)
    frame = pl.read_csv(io.BytesIO(content), has_header=False, schema=grouping.rows)
    # An empty text may be read as null.
    return frame.with_columns(pl.col(ID).fill_null("").str.decode("hex").cast(pl.String)) if grouping.is_text else frame


def _micros(column: str) -> str:
    """SQL: a time or an interval in microseconds."""
    return f"(extract(epoch FROM w.{column}) * {SECOND})::bigint"
