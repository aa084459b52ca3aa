"""The settings that the warehouse was computed with."""

from collections.abc import Sequence
from dataclasses import dataclass

from commands.audit.engine import Engine
from commands.audit.windows import Size, sizes

_SECOND = 1_000_000
#: The settings before an aggregator has stored any; no results exist then.
_DEFAULTS = {"SALES_WINDOWS": "1m", "WATERMARK_DELAY_S": "10", "ALLOWED_LATENESS_S": "60", "FACT_SALES": "on"}


@dataclass(frozen=True)
class Shaping:
    """``delay`` and ``lateness`` in microseconds; ``has_facts``: whether `fact_sales` is filled."""

    windows: Sequence[Size]
    delay: int
    lateness: int
    has_facts: bool


def shaping(engine: Engine) -> Shaping:
    """The settings of the loaded table ``settings``."""
    stored = _DEFAULTS | dict(engine.execute("SELECT name, value FROM settings").fetchall())
    delay, lateness = (int(stored[n]) * _SECOND for n in ("WATERMARK_DELAY_S", "ALLOWED_LATENESS_S"))
    return Shaping(sizes(stored["SALES_WINDOWS"]), delay, lateness, stored["FACT_SALES"] == "on")
