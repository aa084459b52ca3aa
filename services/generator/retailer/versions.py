"""What a value was at a moment in the past: the price of a product, or whether a store sold. Pure.

A version begins when its change takes effect, which is the row's ``last_update_time``, and ends where the next begins::

    times    -oo        10:00        10:07
    value     |-- 1999 --|--- 1799 ---|--- 2199 ---
"""

from bisect import bisect_right

#: Older than any moment: a new id has had its first value for ever.
EVER = -(2**62)
NEVER = 2**62
_MOST = 256
_HOUR_US = 3_600_000_000


class Versions:
    """The values of many ids over the last hour and ``longer_us``, at most 256 of each id."""

    def __init__(self, longer_us: int = 0) -> None:
        self._kept_us = _HOUR_US + longer_us
        self._known: dict[int, tuple[list[int], list[int]]] = {}

    def add(self, number: int, from_us: int, value: int) -> None:
        """Note that an id has a value from a moment on. The moments of an id ascend."""
        times, values = self._known.setdefault(number, ([], []))
        if values and values[-1] == value:
            return
        times.append(from_us)
        values.append(value)
        while len(times) > 1 and (times[1] <= from_us - self._kept_us or len(times) > _MOST):
            del times[0], values[0]

    def forget(self, number: int) -> None:
        """Drop an id."""
        self._known.pop(number, None)

    def since(self, number: int) -> int:
        """The first moment whose value is known."""
        return self._known[number][0][0]

    def at(self, number: int, at_us: int) -> int:
        """The value of an id at a moment; before all known moments the first one."""
        times, values = self._known[number]
        return values[max(bisect_right(times, at_us) - 1, 0)]

    def next_true(self, number: int, at_us: int) -> int:
        """The first moment from ``at_us`` on (inclusive) whose value is known and not 0; NEVER if there is none."""
        times, values = self._known[number]
        place = bisect_right(times, at_us) - 1
        if place >= 0 and values[place]:
            return at_us
        return next((t for t, v in zip(times[place + 1 :], values[place + 1 :], strict=True) if v), NEVER)

    def all_true(self, number: int, from_us: int, until_us: int) -> bool:
        """Whether the value is known and not 0 from ``from_us`` (inclusive) to ``until_us`` (exclusive)."""
        times, values = self._known[number]
        first, last = bisect_right(times, from_us) - 1, bisect_right(times, until_us - 1) - 1
        return first >= 0 and all(values[first : last + 1])

    def newest_from(self, number: int) -> int:
        """Since when an id has its newest value."""
        return self._known[number][0][-1]
