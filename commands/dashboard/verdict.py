"""The verdict on top of the page: whether all is well, else what is wrong and since when. Pure; time is an argument.

The rules, which the page states beside each figure:

    service     ready: good      not ready, or a replica missing: worrying      down: bad
    server      a part of the page that cannot be read: bad
    lag         seconds of work at the present rate, its least over 10 s:       from 10 s worrying, from 60 s bad
    watermark   seconds without a rise while sales are cleaned:                 from 30 s worrying, from 90 s bad
    rejects     share of the records of the last minute:                        from 10 % worrying, from 50 % bad
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from commands.dashboard.trends import Trends
from retail_stream.topics import Group

#: Bounds of worrying and bad.
LAG_S, STILL_S, REJECTED = (10.0, 60.0), (30.0, 90.0), (0.1, 0.5)
#: Seconds over which the least lag counts, and over which rejects are a share.
_LAG_OVER_S, _REJECTED_OVER_S = 10.0, 60.0
#: Records in the minute below which a share says nothing.
_FEW = 20
#: The rate that a group's lag is divided by: what comes to it.
_COMES = {Group.CLEANER: "raw", Group.SCD_MERGER: "clean_dimensions", Group.AGGREGATOR: "clean_sales"}
_NAMES = {"generator": "Generator", "cleaner": "Cleaner", "scd_merger": "SCD merger", "aggregator": "Aggregator"}
_WORDS = {"down": "is down", "starting": "is not ready", "degraded": "lacks a replica"}


class Level(StrEnum):
    """How good something is, the best first."""

    GOOD = "good"
    WORRYING = "worrying"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that is not good. ``about``: what it is about, the same for as long as it lasts."""

    about: str
    level: Level
    what: str
    why: str = ""


class Verdict:
    """Remembers since when each finding lasts."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._since: dict[str, float] = {}
        self._level: Level | None = None
        self._level_since = 0.0

    def update(self, findings: Iterable[Finding], at: float) -> dict[str, Any]:
        """For the page: ``level``, ``since`` (when it came to that level) and ``findings``, the worst first."""
        found = sorted(findings, key=lambda f: list(Level).index(f.level), reverse=True)
        # None in the future: the clock may have been set back.
        self._since = {f.about: min(at, self._since.get(f.about, at)) for f in found}
        level = found[0].level if found else Level.GOOD
        if level is not self._level:
            self._level, self._level_since = level, at
        self._level_since = min(at, self._level_since)
        # Several parts of the page are read from one server, and say the same of it.
        first: dict[tuple[str, str], Finding] = {}
        for f in sorted(found, key=lambda f: self._since[f.about]):
            first.setdefault((f.what, f.why), f)
        rows = [{"about": f.about, "level": f.level, "what": f.what, "why": f.why, "since": self._since[f.about]}
                for f in found if first[f.what, f.why] is f]  # fmt: skip
        return {"level": level, "since": self._level_since, "findings": rows}


def judge(now: Mapping[str, Any], trends: Trends) -> list[Finding]:
    """What of a snapshot is not good, by the rules above."""
    found = [
        Finding(f"service {s['name']}", Level.BAD if s["state"] == "down" else Level.WORRYING,
                f"{_NAMES.get(s['name'], s['name'])} {_WORDS[s['state']]}", s["why"])
        for s in now.get("services", ()) if s["state"] != "ready"
    ]  # fmt: skip
    found += [Finding(f"reading {part}", Level.BAD, why) for part, why in now["problems"].items()]
    found += [f for group in now.get("lag", ()) if (f := _lag(Group(group), trends)) is not None]
    return found + [f for f in (_watermark(trends), _rejects(trends)) if f is not None]


def _level(value: float, bounds: tuple[float, float]) -> Level:
    return Level.BAD if value >= bounds[1] else Level.WORRYING if value >= bounds[0] else Level.GOOD


def _lag(group: Group, trends: Trends) -> Finding | None:
    least = trends.least(f"lag.{group}", _LAG_OVER_S)
    rate = max(1.0, trends.mean(f"rate.{_COMES[group]}", _LAG_OVER_S) or 0.0)
    if least is None or (level := _level(least / rate, LAG_S)) is Level.GOOD:
        return None
    what = f"{_NAMES[group]} is {least:,.0f} records behind, {least / rate:,.0f} s of work"
    return Finding(f"lag {group}", level, what, f"{rate:,.0f} records come to it each second")


def _watermark(trends: Trends) -> Finding | None:
    still_s = trends.still_s("watermark")
    if still_s is None or not trends.least("rate.clean_sales", STILL_S[0]):
        return None
    if (level := _level(still_s, STILL_S)) is Level.GOOD:
        return None
    return Finding("watermark", level, f"The watermark has not risen for {still_s:,.0f} s, and sales arrive")


def _rejects(trends: Trends) -> Finding | None:
    rejected, all_records = trends.sum("rate.dlq", _REJECTED_OVER_S), trends.sum("rate.raw", _REJECTED_OVER_S)
    if all_records < _FEW or (level := _level(rejected / all_records, REJECTED)) is Level.GOOD:
        return None
    return Finding("rejects", level, f"{rejected / all_records:.0%} of the last minute's records were rejected")
