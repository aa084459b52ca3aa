"""The settings that the warehouse was computed with."""

from collections.abc import Sequence
from dataclasses import dataclass

from commands.audit.engine import Engine
from commands.audit.windows import Size, sizes, span
from commands.verify.report import Check

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
    """The settings of the loaded table ``settings``; the default of one that :func:`setting_check` names."""
    valid = {name: value for name, value in _stored(engine).items() if _is_valid(name, value)}
    stored = _DEFAULTS | valid
    delay, lateness = (int(stored[n]) * _SECOND for n in ("WATERMARK_DELAY_S", "ALLOWED_LATENESS_S"))
    return Shaping(sizes(stored["SALES_WINDOWS"]), delay, lateness, stored["FACT_SALES"] == "on")


def setting_check(engine: Engine) -> Check:
    """The line of ``stored_settings``: the four settings that shape results, each with a valid value."""
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


def _stored(engine: Engine) -> dict[str, str]:
    return dict(engine.execute("SELECT name, value FROM settings ORDER BY name").fetchall())


def _is_valid(name: str, value: str) -> bool:
    match name:
        case "SALES_WINDOWS":
            parts = [part.strip().partition("/") for part in value.split(",")]
            return all(span(size) and span(slide or size) for size, _, slide in parts)
        case "FACT_SALES":
            return value in ("on", "off")
    return name in _DEFAULTS and value.isascii() and value.isdigit()
