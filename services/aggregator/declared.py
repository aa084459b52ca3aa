"""What sales are summed by, as it stands in `schemas/windows.toml`, checked.

An entry is by a column of `sales.clean`, and the aggregator fills its table; or by an attribute of a dimension, and a
view sums the table of another entry.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from retail_stream import topics
from retail_stream.entities import FIELDS, JOINED, Entity
from retail_stream.errors import SettingsError
from services.aggregator.windows import Window, parse, parse_gap

#: The name that messages and the stored settings have for the file.
NAME: Final = "schemas/windows.toml"
FILE = topics.SCHEMAS / "windows.toml"
COUNTS: Final = ("transactions", "units_sold", "units_returned")
CENTS: Final = ("gross_sales", "returns_amount", "discounts", "taxes")
NET: Final = "net_sales"
#: What ``net_sales`` is computed from.
NET_OF: Final = ("gross_sales", "returns_amount", "discounts")
MEASURES: Final = (*COUNTS, *CENTS, NET)
#: The entries that the contract has: name → column. They cannot be changed.
SHIPPED: Final[Mapping[str, str]] = {"product": "product_id", "store": "store_id"}
#: Names whose view or table is there already.
_RESERVED: Final = ("category",)
_KEYS: Final = ("by", "measures", "windows", "session")
# The longest name that Postgres can still make the names of indexes and conditions from.
_ENTRY = re.compile(r"[a-z][a-z0-9_]{0,29}")


@dataclass(frozen=True)
class Aggregation:
    """Sums by a column of `sales.clean`.

    ``holds``: its Avro type: int, long or string. ``measures``: those of MEASURES that its table has. ``windows``: its
    own, as SALES_WINDOWS writes them; empty: those of SALES_WINDOWS. ``session``: the gap, if it has sessions instead.
    """

    name: str
    by: str
    holds: str = "int"
    measures: tuple[str, ...] = MEASURES
    windows: str = ""
    session: str = ""

    @property
    def table(self) -> str:
        """The table that the aggregator fills."""
        return relation(self.name)

    @property
    def text(self) -> str:
        """The entry in one line, in a canonical spelling."""
        measures = "" if self.measures == MEASURES else f" measures {','.join(self.measures)}"
        windows = f" windows {self.windows}" if self.windows else ""
        return f"{self.name} by {self.by}{measures}{windows}" + (f" session {self.session}" if self.session else "")

    def windows_or(self, default: tuple[Window, ...]) -> tuple[Window, ...]:
        """Its windows, where ``default`` are those of SALES_WINDOWS."""
        if self.session:
            return (parse_gap(self.session),)
        return parse(self.windows) if self.windows else default


@dataclass(frozen=True)
class View:
    """Sums by a text attribute of a dimension, over the table of ``base``, which is by the dimension's key."""

    name: str
    entity: Entity
    attribute: str
    base: Aggregation

    @property
    def table(self) -> str:
        """The name of the view."""
        return relation(self.name)

    @property
    def text(self) -> str:
        """The entry in one line, in a canonical spelling."""
        return f"{self.name} by {self.entity}.{self.attribute} over {self.base.text}"


@dataclass(frozen=True)
class Declarations:
    """The entries of the file: those that the contract has first, the others in their order there."""

    aggregations: tuple[Aggregation, ...]
    views: tuple[View, ...] = ()

    @property
    def text(self) -> str:
        """What shapes results: the entries by a column. Views are right whenever they are made."""
        return "; ".join(a.text for a in self.aggregations)


USUAL: Final = Declarations(tuple(Aggregation(name, by) for name, by in SHIPPED.items()))


def relation(name: str) -> str:
    """The table or view of the entry of this name."""
    return "sales_by_window" if name == "store" else f"sales_by_{name}_window"


def load(path: Path | None = None) -> Declarations:
    """The entries of a file, FILE by default, checked.

    Raises:
        SettingsError: the file or an entry is not valid; one sentence that names it and what is allowed.
    """
    try:
        tables = tomllib.loads((path or FILE).read_text(encoding="utf-8"))
    except OSError as e:
        raise SettingsError(f"{NAME} cannot be read: {e.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SettingsError(f"{NAME} is not valid TOML: {e}.") from None
    if missing := [name for name in SHIPPED if name not in tables]:
        raise SettingsError(
            f"{NAME} has no entry {missing[0]}; allowed: all of {', '.join(SHIPPED)}, and further ones."
        )
    aggregations: dict[str, Aggregation] = {}
    for name in (*SHIPPED, *(n for n in tables if n not in SHIPPED)):
        with _Named(name):
            if not _is_view(_entry(name, tables[name])):
                aggregations[name] = _aggregation(name, tables[name])
    views = []
    for name in tables:
        if name not in aggregations:
            with _Named(name):
                views.append(_view(name, tables[name], aggregations.values()))
    slides(aggregations.values())
    return Declarations(tuple(aggregations.values()), tuple(views))


def slides(aggregations: Iterable[Aggregation], default: tuple[Window, ...] = ()) -> tuple[Window, ...]:
    """All windows, each once, the shortest first; ``default``: those of SALES_WINDOWS.

    Raises:
        SettingsError: a size has two slides, or is the gap of sessions too: `sales.late` names a window by its size and
            its start.
    """
    found = {w.size: w for w in default}
    for a in aggregations:
        for w in a.windows_or(default):
            other = found.setdefault(w.size, w)
            if (other.slide, other.is_session) != (w.slide, w.is_session):
                given = f"session={a.session!r}" if a.session else f"windows={a.windows!r}"
                raise SettingsError(
                    f"{NAME}: entry {a.name}: {given} has {w.text!r} beside {other.text!r} of SALES_WINDOWS or another "
                    "entry; allowed: one slide for each size, and a gap of sessions that is not the size of a window."
                )
    return tuple(found[size] for size in sorted(found))


class _Named:
    """Makes a ValueError a SettingsError that names the entry."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError):
            raise SettingsError(f"{NAME}: entry {self._name}: {error}.") from None


def _entry(name: str, table: Any) -> Mapping[str, Any]:
    if not _ENTRY.fullmatch(name):
        raise ValueError("the name is not valid; allowed are a-z, 0-9 and _, at most 30, beginning with a letter")
    if name in _RESERVED:
        raise ValueError(f"{relation(name)} is there already; choose another name")
    if not isinstance(table, dict):
        raise ValueError(f"it is not a table; allowed are {', '.join(_KEYS)}")
    if strange := [n for n in table if n not in _KEYS]:
        raise ValueError(f"{strange[0]!r} is not known; allowed are {', '.join(_KEYS)}")
    if not isinstance(table.get("by"), str):
        raise ValueError(f"by is missing; allowed are {', '.join(_columns())}, or an attribute such as products.brand")
    return table


def _is_view(table: Mapping[str, Any]) -> bool:
    return "." in table["by"]


def _columns() -> dict[str, str]:
    """Columns of `sales.clean` that can be a key, with their Avro types: no times, no amounts."""
    return _plain(topics.clean(Entity.SALES), ("int", "long", "string"))


def _plain(topic: str, types: Sequence[str]) -> dict[str, str]:
    return {f["name"]: f["type"] for f in topics.topic(topic).schema()["fields"] if f["type"] in types}


def _aggregation(name: str, table: Mapping[str, Any]) -> Aggregation:
    by, columns = table["by"], _columns()
    if by not in columns:
        raise ValueError(f"by={by!r} is not a column to group by; allowed are {', '.join(columns)}")
    if name in SHIPPED and table != {"by": SHIPPED[name]}:
        raise ValueError(f"it is part of the contract; allowed is only by={SHIPPED[name]!r}")
    if "session" in table and "windows" in table:
        raise ValueError("it has windows and session; allowed is one of them")
    windows = _canonical(table, "windows", "a list like '1m,1h,5m/1m'", lambda s: ",".join(w.text for w in parse(s)))
    session = _canonical(table, "session", "a gap like '30m'", lambda s: parse_gap(s).text)
    return Aggregation(name, by, columns[by], _measures(table.get("measures")), windows, session)


def _measures(given: Any) -> tuple[str, ...]:
    if given is None:
        return MEASURES
    if not isinstance(given, list) or not given:
        raise ValueError(f"measures is not a list of names; allowed are {', '.join(MEASURES)}")
    if strange := [m for m in given if m not in MEASURES]:
        raise ValueError(f"measures has {strange[0]!r}, which is not one; allowed are {', '.join(MEASURES)}")
    if NET in given and (missing := [m for m in NET_OF if m not in given]):
        raise ValueError(f"measures has {NET}, which needs {missing[0]}; allowed is {NET} with {', '.join(NET_OF)}")
    return tuple(m for m in MEASURES if m in given)


def _canonical(table: Mapping[str, Any], name: str, like: str, parsed: Callable[[str], str]) -> str:
    """The value of a key as ``parsed`` spells it; empty if there is none."""
    if (given := table.get(name)) is None:
        return ""
    try:
        return parsed(given if isinstance(given, str) else "")
    except ValueError as e:
        raise ValueError(f"{name}={given!r} {e}; allowed is {like}") from None


def _view(name: str, table: Mapping[str, Any], aggregations: Iterable[Aggregation]) -> View:
    entity, _, attribute = table["by"].partition(".")
    if entity not in JOINED:
        raise ValueError(f"by={table['by']!r} is not of a dimension; allowed are {', '.join(JOINED)}")
    attributes = _plain(topics.clean(Entity(entity)), ("string",))
    if attribute not in attributes:
        raise ValueError(f"by={table['by']!r} is not a text of {entity}; allowed are {', '.join(attributes)}")
    if given := [k for k in _KEYS if k != "by" and k in table]:
        raise ValueError(f"{given[0]} is not for a view; allowed is only by, as the view has those of its table")
    key = FIELDS[Entity(entity)].key
    base = next((a for a in aggregations if a.by == key and not a.session), None)
    if base is None:
        raise ValueError(f"a view by an attribute of {entity} needs an entry by {key} without session; add one")
    return View(name, Entity(entity), attribute, base)
