"""Compares two relations that should be equal: how many rows differ, and some of them in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from typing import Any

from commands.audit.engine import Engine, count
from commands.verify.report import MAX_EXAMPLES, Check

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Format(Enum):
    """How a column's values are shown to a person."""

    PLAIN = auto()
    TIME = auto()  # microseconds since 1970-01-01 UTC
    DURATION = auto()  # microseconds
    CENTS = auto()
    RAW = auto()  # as it is, without quotes


@dataclass(frozen=True)
class Column:
    """A column that both relations have."""

    name: str
    format: Format = Format.PLAIN

    def show(self, value: Any) -> str:
        """A value as text for a person."""
        if value is None:
            return "nothing"
        match self.format:
            case Format.TIME:
                return _time(int(value))
            case Format.DURATION:
                return str(timedelta(microseconds=int(value)))
            case Format.CENTS:
                return f"{Decimal(int(value)) / 100:,.2f}"
            case Format.RAW:
                return str(value)
        return repr(value) if isinstance(value, str | bytes | bytearray) else str(value)


def columns(*names: str, format: Format = Format.PLAIN) -> tuple[Column, ...]:
    """Several columns of one format."""
    return tuple(Column(n, format) for n in names)


@dataclass(frozen=True)
class Differences:
    """How many rows are missing, unexpected or different, and some of them in words."""

    count: int = 0
    examples: tuple[str, ...] = ()

    def __add__(self, other: "Differences") -> "Differences":
        return Differences(self.count + other.count, (self.examples + other.examples)[:MAX_EXAMPLES])


def differences(
    engine: Engine, expected: str, actual: str, keys: Sequence[Column], values: Sequence[Column], noun: str = ""
) -> Differences:
    """Compare two relations row by row.

    ``expected``, ``actual``: tables or queries that have ``keys`` (unique, never null) and ``values``. ``noun``: what
    an example calls a row, before its key.
    """
    key_names, names = [f'"{k.name}"' for k in keys], [f'"{v.name}"' for v in values]
    on = " AND ".join(f"e.{k} = a.{k}" for k in key_names)
    differ = " OR ".join(["e.here IS NULL", "a.here IS NULL", *(f"e.{n} IS DISTINCT FROM a.{n}" for n in names)])
    picked = ", ".join(
        [f"coalesce(e.{k}, a.{k})" for k in key_names] + ["e.here", "a.here"] + [f"e.{n}, a.{n}" for n in names]
    )
    wanted = ", ".join([*key_names, *names, "true AS here"])
    joined = (
        f"(SELECT {wanted} FROM {_relation(expected)}) e FULL JOIN (SELECT {wanted} FROM {_relation(actual)}) a ON {on}"
    )
    rows = engine.execute(
        f"SELECT count(*) OVER (), {picked} FROM {joined} WHERE {differ}"
        f" ORDER BY {', '.join(str(i + 2) for i in range(len(keys)))} LIMIT {MAX_EXAMPLES}"
    ).fetchall()
    if not rows:
        return Differences()
    return Differences(rows[0][0], tuple(_example(noun, row[1:], keys, values) for row in rows))


def check(
    engine: Engine,
    name: str,
    expected: str,
    actual: str,
    keys: Sequence[Column],
    values: Sequence[Column],
    note: str = "",
) -> Check:
    """A line of the report: both relations, as :func:`differences` compares them, with their numbers of rows."""
    differing = differences(engine, expected, actual, keys, values)
    figures = count(engine, _relation(expected)), count(engine, _relation(actual))
    return Check(name, *figures, differing.count, differing.examples, note)


def listed(engine: Engine, query: str) -> Differences:
    """Differences that a query lists itself: each of its rows is the text of one."""
    rows = engine.execute(
        f"SELECT count(*) OVER (), t FROM ({query}) AS q(t) ORDER BY 2 LIMIT {MAX_EXAMPLES}"
    ).fetchall()
    return Differences(rows[0][0], tuple(t for _, t in rows)) if rows else Differences()


def _relation(sql: str) -> str:
    return f"({sql})" if " " in sql else sql


def _example(noun: str, row: Sequence[Any], keys: Sequence[Column], values: Sequence[Column]) -> str:
    key = " ".join(f"{k.name} {k.show(v)}" for k, v in zip(keys, row, strict=False))
    place = f"{noun} {key}".strip()
    is_expected, is_there, *pairs = row[len(keys) :]
    if not is_there:
        return f"{place}: missing"
    if not is_expected:
        return f"{place}: should not be there"
    wrong = (
        f"{c.name} expected {c.show(e)}, found {c.show(a)}"
        for c, e, a in zip(values, pairs[::2], pairs[1::2], strict=True)
        if e != a
    )
    return f"{place}: {'; '.join(wrong)}"


def _time(us: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{us} µs"
