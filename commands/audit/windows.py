"""Windows of sales: what they are grouped by, their measures, and their sizes as SALES_WINDOWS writes them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from commands.audit.layouts import Holds, holds
from retail_stream.entities import Entity

COUNTS = ("transactions", "units_sold", "units_returned")
#: In cents.
MONEY = ("gross_sales", "returns_amount", "discounts", "taxes", "net_sales")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Size:
    """A size of windows, as SALES_WINDOWS writes it; ``size`` and ``slide`` in microseconds.

    ``is_session``: sessions, and both are the gap. A sale by itself is a session from its time to its time + gap.
    """

    name: str
    size: int
    slide: int
    is_session: bool = False

    @property
    def pane(self) -> str:
        """SQL: the start of the last window that contains ``event_time``; floored, also before 1970."""
        if self.is_session:
            return "event_time"
        return f"(event_time - ((event_time % {self.slide}) + {self.slide}) % {self.slide})"


def span(text: str) -> int | None:
    """Microseconds of a size or slide such as ``90s`` or ``5m``; None for other text."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    return int(match[1]) * _UNITS[match[2]] * 1_000_000 if match else None


def sizes(setting: str) -> tuple[Size, ...]:
    """The sizes of a stored SALES_WINDOWS, such as ``1m,5m/1m``, the smallest first."""
    stored = []
    for part in (p.strip() for p in setting.split(",")):
        size, _, slide = part.partition("/")
        length, step = span(size), span(slide or size)
        assert length is not None, f"SALES_WINDOWS is stored as {setting!r}"
        assert step is not None, f"SALES_WINDOWS is stored as {setting!r}"
        stored.append(Size(size, length, step))
    return tuple(sorted(stored, key=lambda w: w.size))


#: The name under which the warehouse stores what `schemas/windows.toml` declared.
DECLARED = "schemas/windows.toml"
#: What is declared before an aggregator has stored anything.
USUAL = "product by product_id; store by store_id"
#: Of a text so many characters are its key.
KEY_CHARACTERS = 500
_MEASURES = (*COUNTS, *MONEY)
_ENTRY = re.compile(r"(\w+) by (\w+)(?: measures ([\w,]+))?(?: windows (\S+)| session (\d+[smhd]))?")
_VIEW = re.compile(r"(\w+) by (\w+)\.(\w+) over (.+)")


@dataclass(frozen=True)
class Grouping:
    """What sales are summed by: ``column`` of a sale, for the windows ``sizes``.

    ``kind``: of its records on `sales.windows`. ``measures``: those of COUNTS and MONEY that it has. ``entry``: as it
    is stored.
    """

    kind: str
    column: str
    measures: tuple[str, ...]
    sizes: tuple[Size, ...]
    entry: str

    @property
    def table(self) -> str:
        """Its table in the warehouse."""
        return "sales_by_window" if self.kind == "store" else f"sales_by_{self.kind}_window"

    @property
    def is_usual(self) -> bool:
        """Whether it needs no declaration."""
        return self.kind in ("store", "product")

    @property
    def is_session(self) -> bool:
        """Whether its windows are sessions."""
        return self.sizes[0].is_session if self.sizes else False

    @property
    def is_text(self) -> bool:
        """Whether its ids are texts."""
        return holds(Entity.SALES)[self.column] is Holds.TEXT

    @property
    def id(self) -> str:
        """SQL: the id of a sale."""
        return f"left({self.column}, {KEY_CHARACTERS})" if self.is_text else self.column


@dataclass(frozen=True)
class View:
    """Sums by the text ``attribute`` of a dimension, over the table of ``base``."""

    name: str
    entity: Entity
    attribute: str
    base: Grouping


def groupings(declared: str, windows: tuple[Size, ...]) -> tuple[Grouping, ...]:
    """The entries of a stored declaration; ``windows``: of SALES_WINDOWS.

    Raises:
        ValueError: it is not a declaration.
    """
    return tuple(_grouping(entry, windows) for entry in declared.split("; "))


def view(relation: str, declared: str, windows: tuple[Size, ...]) -> View | None:
    """The view that was made of an entry; None for the entry of a table."""
    match = _VIEW.fullmatch(declared)
    return match and View(relation, Entity(match[2]), match[3], _grouping(match[4], windows))


def every_size(entries: Iterable[Grouping]) -> tuple[Size, ...]:
    """The windows of all entries, each once, the smallest first."""
    return tuple(sorted({size for entry in entries for size in entry.sizes}, key=lambda w: w.size))


def _grouping(entry: str, windows: tuple[Size, ...]) -> Grouping:
    match = _ENTRY.fullmatch(entry)
    if match is None or match[2] not in holds(Entity.SALES):
        raise ValueError(f"{entry!r} is not an entry")
    measures = tuple(match[3].split(",")) if match[3] else _MEASURES
    if not set(measures) <= set(_MEASURES):
        raise ValueError(f"{entry!r} names another measure")
    own = sizes(match[4]) if match[4] else windows
    if match[5]:
        gap = sizes(match[5])[0]
        own = (Size(gap.name, gap.size, gap.size, is_session=True),)
    return Grouping(match[1], match[2], measures, own, entry)
