"""Windows of sales: their measures, and their sizes as SALES_WINDOWS writes them."""

import re
from dataclasses import dataclass

COUNTS = ("transactions", "units_sold", "units_returned")
#: In cents.
MONEY = ("gross_sales", "returns_amount", "discounts", "taxes", "net_sales")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Size:
    """A size of windows, as SALES_WINDOWS writes it; ``size`` and ``slide`` in microseconds."""

    name: str
    size: int
    slide: int

    @property
    def pane(self) -> str:
        """SQL: the start of the last window that contains ``event_time``; floored, also before 1970."""
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
