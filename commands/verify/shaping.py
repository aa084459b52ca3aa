"""The settings that the warehouse was computed with."""

from collections.abc import Sequence
from dataclasses import dataclass

from commands.audit.engine import Engine
from commands.audit.windows import (
    DECLARED,
    USUAL,
    Grouping,
    Size,
    View,
    every_size,
    groupings,
    sizes,
    span,
    view,
)
from commands.verify.compare import check, columns
from commands.verify.report import Check
from retail_stream.entities import Entity

_SECOND = 1_000_000
#: The view that the migrations make.
CATEGORY = View("sales_by_category_window", Entity.PRODUCTS, "category", groupings("product by product_id", ())[0])
#: The settings before an aggregator has stored any; no results exist then.
_DEFAULTS = {
    "SALES_WINDOWS": "1m",
    "WATERMARK_DELAY_S": "10",
    "ALLOWED_LATENESS_S": "60",
    "FACT_SALES": "on",
    DECLARED: USUAL,
}
#: What `verify` reads first: they say which tables there are to read.
QUERIES = {
    "settings": "SELECT name, value FROM stored_settings",
    "aggregations": "SELECT relation, declaration FROM aggregations",
}


@dataclass(frozen=True)
class Shaping:
    """``delay`` and ``lateness`` in microseconds; ``has_facts``: whether `fact_sales` is filled.

    ``groupings``: what the sales were summed by. ``views``: what sums these tables. ``windows``: of all groupings.
    """

    groupings: Sequence[Grouping]
    views: Sequence[View]
    windows: Sequence[Size]
    delay: int
    lateness: int
    has_facts: bool


def shaping(engine: Engine) -> Shaping:
    """The settings of the loaded tables ``settings`` and ``aggregations``.

    Where :func:`setting_check` names one, its default.
    """
    valid = {name: value for name, value in _stored(engine).items() if _is_valid(name, value)}
    stored = _DEFAULTS | valid
    delay, lateness = (int(stored[n]) * _SECOND for n in ("WATERMARK_DELAY_S", "ALLOWED_LATENESS_S"))
    default = sizes(stored["SALES_WINDOWS"])
    entries = groupings(stored[DECLARED], default)
    made = engine.execute("SELECT relation, declaration FROM aggregations ORDER BY relation").fetchall()
    # A view over a table that no aggregator has filled yet shows nothing.
    filled = {g.entry for g in entries}
    further = (v for relation, words in made if (v := view(relation, words, default)) and v.base.entry in filled)
    views = [CATEGORY, *further]
    return Shaping(entries, views, every_size(entries), delay, lateness, stored["FACT_SALES"] == "on")


def setting_check(engine: Engine) -> Check:
    """The line of ``stored_settings``: the settings that shape results, each with a valid value."""
    there = _stored(engine)
    wrong = [f"name {name!r}: missing" for name in _DEFAULTS if there and name not in there]
    wrong += [f"name {name!r}: should not be there" for name in there if name not in _DEFAULTS]
    wrong += [
        f"name {name!r}: {value!r} is not a valid value"
        for name, value in there.items()
        if name in _DEFAULTS and not _is_valid(name, value)
    ]
    note = "" if there else "none is stored before the first sale"
    return Check("stored_settings", len(_DEFAULTS) if there else 0, len(there), len(wrong), tuple(wrong), note)


def aggregation_check(engine: Engine, shaping: Shaping) -> Check:
    """The line of ``aggregations``: each table that the sales were summed into was made of the stored entry."""
    wanted = " UNION ALL ".join(
        f"SELECT '{g.table}' AS relation, '{g.entry}' AS declaration" for g in shaping.groupings
    )
    # Tables of entries that no aggregator has read yet, and views, which have lines of their own.
    there = f"SELECT * FROM aggregations SEMI JOIN ({wanted}) USING (relation)"
    return check(engine, "aggregations", wanted, there, columns("relation"), columns("declaration"))


def _stored(engine: Engine) -> dict[str, str]:
    return dict(engine.execute("SELECT name, value FROM settings ORDER BY name").fetchall())


def _is_valid(name: str, value: str) -> bool:
    match name:
        case "SALES_WINDOWS":
            parts = [part.strip().partition("/") for part in value.split(",")]
            return all(span(size) and span(slide or size) for size, _, slide in parts)
        case _ if name == DECLARED:
            try:
                return {"store", "product"} <= {g.kind for g in groupings(value, ())}
            except (ValueError, AssertionError):
                return False
        case "FACT_SALES":
            return value in ("on", "off")
    return name in _DEFAULTS and value.isascii() and value.isdigit()
