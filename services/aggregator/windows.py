"""Windows in event time: which of them a sale is in, and which of those it misses.

A window is [start, end): start inclusive, end exclusive. Starts are multiples of the slide since 1970-01-01T00:00:00Z,
also before 1970. Times are int64 microseconds UTC.

    tumbling 1m     |---w0---|---w1---|---w2---|          a time is in one window
    hopping 3m/1m   |-----------w0-------------|
                             |-----------w1-------------|  a time is in size / slide windows; they share its
                             | pane   |                    pane [start, start + slide), start = floor(time / slide)

Sessions have no fixed bounds: sessions.py. A sale by itself is a session [time, time + gap).
"""

import re
from dataclasses import dataclass
from typing import Final

import polars as pl

from services.aggregator.watermark import BEFORE, Watermark

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ONE = re.compile(r"([1-9][0-9]{0,8})([smhd])(?:/([1-9][0-9]{0,8})([smhd]))?")
SECOND: Final = 1_000_000


@dataclass(frozen=True)
class Window:
    """One kind of window. ``size`` and ``slide`` in microseconds, size a multiple of slide; ``text`` as configured.

    ``is_session``: sessions; ``size`` and ``slide`` are the gap, and the window of a sale by itself begins with it.
    """

    text: str
    size: int
    slide: int
    is_session: bool = False

    @property
    def name(self) -> str:
        """The size as configured, as `sales.windows` carries it."""
        return self.text.partition("/")[0]

    @property
    def panes(self) -> int:
        """The number of windows that a time is in."""
        return self.size // self.slide

    def pane(self) -> pl.Expr:
        """Start of the pane that ``event_time`` is in, which is also the start of its last window."""
        time = pl.col("event_time")
        return time if self.is_session else time // self.slide * self.slide

    def missed(self, lateness: int) -> pl.Expr:
        """The number of its windows that a sale is too late for: the oldest ones, with end + lateness <= BEFORE.

        The windows of a pane end at pane + slide, pane + 2 slide, … pane + size.
        """
        passed = (pl.col(BEFORE) - lateness - self.pane()) // self.slide
        return passed.clip(0, self.panes).fill_null(0).cast(pl.Int32)

    def ends(self, event_time: int) -> list[int]:
        """The exclusive ends of the windows that a time is in, oldest first."""
        pane = event_time if self.is_session else event_time // self.slide * self.slide
        return [pane + i * self.slide for i in range(1, self.panes + 1)]


def parse(text: str) -> tuple[Window, ...]:
    """Windows from a list like ``1m,1h,5m/1m``, the shortest first.

    Raises:
        ValueError: what is wrong with which part, as a predicate.
    """
    windows: dict[int, Window] = {}
    for part in (p.strip() for p in text.split(",")):
        match = _ONE.fullmatch(part)
        if match is None:
            raise ValueError(f"has the part {part!r}, which is not a size or size/slide in s, m, h or d")
        number, unit, every, every_unit = match.groups()
        size = int(number) * _UNITS[unit]
        slide = int(every) * _UNITS[every_unit] if every else size
        if size % slide:
            raise ValueError(f"has the part {part!r}, whose size is not a multiple of its slide")
        if size > 366 * _UNITS["d"] or size // slide > 1440:
            raise ValueError(
                f"has the part {part!r}, which is longer than 366d or has more than 1440 slides in its size"
            )
        if size in windows:
            raise ValueError(f"has the part {part!r}, whose size is that of {windows[size].name!r}")
        windows[size] = Window(part, size * SECOND, slide * SECOND)
    return tuple(windows[size] for size in sorted(windows))


def parse_gap(text: str) -> Window:
    """Sessions from their gap, such as ``30m``.

    Raises:
        ValueError: what is wrong, as a predicate.
    """
    match = _ONE.fullmatch(text)
    if match is None or match[3]:
        raise ValueError("is not a gap in s, m, h or d")
    gap = int(match[1]) * _UNITS[match[2]]
    if gap > 366 * _UNITS["d"]:
        raise ValueError("is longer than 366d")
    return Window(text, gap * SECOND, gap * SECOND, is_session=True)


def expiry(windows: tuple[Window, ...], lateness: int) -> pl.Expr:
    """The time at which the last window of a sale becomes final: its largest end + lateness."""
    return pl.max_horizontal(w.pane() + w.size for w in windows) + lateness


def may_be_due(windows: tuple[Window, ...], lateness: int, was: Watermark, is_now: Watermark) -> bool:
    """Whether the end, or end + lateness, of some window may lie in (was, is_now]; if not, no query is needed."""
    if was is None or is_now is None:
        return is_now is not None
    return any(
        is_now > was if w.is_session else (is_now - by) // w.slide > (was - by) // w.slide
        for w in windows
        for by in (0, lateness)
    )
