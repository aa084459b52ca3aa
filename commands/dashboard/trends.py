"""The trends of the page: a bounded history of every figure, one sample each two seconds."""

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

#: Samples kept, ten minutes of them, and seconds between two.
KEPT, EVERY_S = 300, 2.0
#: Names of series that are kept: rules of other people's schemas could be many.
MOST_SERIES = 64


class Trends:
    """Samples of named figures, the newest last. A name that a sample lacks has no value at that time."""

    def __init__(self, kept: int = KEPT) -> None:
        """No samples yet."""
        self._samples: deque[tuple[float, dict[str, float]]] = deque(maxlen=kept)

    def add(self, at: float, figures: Mapping[str, float | None]) -> None:
        """Append a sample. ``at``: s since 1970; samples that lie behind it go, as the clock was set back."""
        while self._samples and self._samples[-1][0] >= at:
            self._samples.pop()
        known = {name: value for name, value in figures.items() if value is not None}
        self._samples.append((at, dict(list(known.items())[:MOST_SERIES])))

    @property
    def last(self) -> dict[str, Any] | None:
        """The newest sample for the page: ``at`` and ``figures``; None before the first."""
        if not self._samples:
            return None
        at, figures = self._samples[-1]
        return {"at": at, "figures": figures}

    def columns(self) -> dict[str, Any]:
        """All samples by column: ``at`` and ``series``, a list for each name with None where it has no value."""
        samples = list(self._samples)
        names = dict.fromkeys(name for _, figures in samples for name in figures)
        return {
            "at": [at for at, _ in samples],
            "series": {name: [figures.get(name) for _, figures in samples] for name in names},
        }

    def least(self, name: str, over_s: float) -> float | None:
        """The least value of the last ``over_s`` seconds; None unless the samples reach so far back."""
        values = [value for _, value in self._newest(name, over_s)]
        reach = len(self._samples) > 1 and self._samples[-1][0] - self._samples[0][0] >= over_s - EVERY_S
        return min(values) if values and reach else None

    def mean(self, name: str, over_s: float) -> float | None:
        """The mean of the last ``over_s`` seconds; None without a value."""
        values = [value for _, value in self._newest(name, over_s)]
        return sum(values) / len(values) if values else None

    def sum(self, name: str, over_s: float) -> float:
        """The sum of a rate over the last ``over_s`` seconds: a count."""
        newest = list(self._newest(name, over_s))
        return sum(value * (at - before) for (before, _), (at, value) in pairwise(reversed(newest)))

    def still_s(self, name: str) -> float | None:
        """Seconds for which a value has been what it is; None without a value."""
        newest = list(self._newest(name, float("inf")))
        if not newest:
            return None
        return newest[0][0] - next(
            (after for (after, value), (_, before) in pairwise(newest) if value != before), newest[-1][0]
        )

    def _newest(self, name: str, over_s: float) -> Iterator[tuple[float, float]]:
        """(time, value), the newest first."""
        until = self._samples[-1][0] if self._samples else 0.0
        for at, figures in reversed(self._samples):
            if until - at > over_s:
                return
            if name in figures:
                yield at, figures[name]
