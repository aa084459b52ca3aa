"""Fields that have no column yet, or a value that their column cannot hold, are kept as JSON in ``extra``.

`retail_stream.avro.spelling` defines how values are written there. A value that its column cannot hold has the key
``~kept:`` and the field's name; no field has such a key, because those that begin with ``~`` get another one.
"""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from retail_stream.avro.spelling import WRITERS
from retail_stream.kafka.batches import EXTRA
from services.scd_merger.dimensions import AttributeType, Dimension

_KEPT = "~kept:"
_FIRST, _LAST = -2_208_988_800_000_000, 253_402_300_799_999_999  # of the years 1900 and 9999
_MONEY = 1e9
_UNFIT = object()
#: unit of a timestamp → how many of it are a microsecond, or how many microseconds it is
_UNITS = {"millis": (1, 1000), "micros": (1, 1), "nanos": (1000, 1)}
_WRITTEN = {AttributeType.TEXT: WRITERS["string"], AttributeType.MONEY: WRITERS["double"]}


def with_known_fields(dimension: Dimension, outdated: pl.DataFrame) -> pl.DataFrame:
    """Stored changes with the attributes that ``extra`` holds moved into their columns.

    Such a change wins against the stored one of its time, because null is smaller than any value.
    """
    columns: dict[str, list[Any]] = outdated.to_dict(as_series=False)
    for row, extra in enumerate(columns[EXTRA]):
        rest = json.loads(extra or "{}")
        for name in rest.keys() & dimension.attributes.keys():
            written = rest.pop(name)
            value = _read_back(written, dimension.attributes[name])
            if value is _UNFIT:
                rest[_KEPT + name] = written
            else:
                columns[name][row] = value
        columns[EXTRA][row] = _text(rest)
    return pl.DataFrame(columns, schema=dimension.change_schema)


def without_unfit(dimension: Dimension, changes: pl.DataFrame) -> pl.DataFrame:
    """Changes in which values that their columns cannot hold have moved into ``extra``.

    The cleaner rejects such values of fields that it knows. Of other fields it accepts them, and a migration may have
    made columns of these since.
    """
    fits = {name: fit for name, t in dimension.attributes.items() if (fit := _fits(pl.col(name), t)) is not None}
    bad = changes.with_row_index("row").filter(~pl.all_horizontal(f.fill_null(True) for f in fits.values()))
    if bad.is_empty():
        return changes
    columns: dict[str, list[Any]] = changes.to_dict(as_series=False)
    for name, fit in fits.items():
        for row in bad.filter(~fit.fill_null(True))["row"].to_list():
            rest = json.loads(columns[EXTRA][row] or "{}")
            rest[_KEPT + name] = _written(columns[name][row], dimension.attributes[name])
            columns[EXTRA][row], columns[name][row] = _text(rest), None
    return pl.DataFrame(columns, schema=changes.schema)


def _text(fields: Mapping[str, Any]) -> str | None:
    return json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if fields else None


def _fits(column: pl.Expr, attribute: AttributeType) -> pl.Expr | None:
    match attribute:
        case AttributeType.TEXT:
            return ~column.str.contains("\0", literal=True)
        case AttributeType.MONEY:
            # NaN fails as well: Polars sorts it above all numbers.
            return column.abs() < _MONEY
        case AttributeType.TIME:
            return column.is_between(_FIRST, _LAST)
        case _:
            return None


def _written(value: Any, attribute: AttributeType) -> Any:
    if attribute is AttributeType.TIME:
        return f"~timestamp-micros:{value}"
    return json.loads(_WRITTEN[attribute](value))


def _read_back(written: Any, attribute: AttributeType) -> Any:
    """The value of a column, or ``_UNFIT``."""
    if isinstance(written, dict) and len(written) == 1 and {*written} <= {*WRITERS, "bytes"}:
        (written,) = written.values()  # a branch of a union
    tag, _, rest = written[1:].partition(":") if isinstance(written, str) and written.startswith("~") else ("", "", "")
    if attribute is AttributeType.FLAG:
        return written if isinstance(written, bool) else _UNFIT
    if attribute is AttributeType.TIME:
        unit = tag.rpartition("timestamp-")[2] if "timestamp-" in tag else ""
        divisor, factor = _UNITS.get(unit, (1, 0))
        moment = int(rest) // divisor * factor if factor else _LAST + 1
        return moment if _FIRST <= moment <= _LAST else _UNFIT
    if attribute is AttributeType.TEXT:
        return _as_text(written, tag, rest)
    number = int(rest) if tag == "long" else written
    if isinstance(number, bool) or not isinstance(number, int | float):
        return _UNFIT
    if attribute is AttributeType.MONEY:
        return float(number) if abs(number) < _MONEY else _UNFIT
    return number if isinstance(number, int) else _UNFIT


def _as_text(written: Any, tag: str, rest: str) -> Any:
    if tag == "bytes":
        try:
            text = bytes.fromhex(rest).decode()
        except ValueError:
            return _UNFIT
        return text if "\0" not in text else _UNFIT
    if not isinstance(written, str) or (written.startswith("~") and not written.startswith("~~")):
        return _UNFIT
    return written.removeprefix("~")
