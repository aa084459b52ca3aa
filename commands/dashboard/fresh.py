"""What many pages ask for at once is read once."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

#: Readings that are remembered; the one that was used least recently goes first.
_MOST = 32


@dataclass
class _Reading:
    lock: threading.Lock = field(default_factory=threading.Lock)
    until: float = 0.0
    content: Any = None


class Fresh:
    """Readings by name, each used again for some seconds. One that took long is used for ten times as long."""

    def __init__(self, for_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``for_s``: seconds for which a reading is used at least."""
        self._for_s, self._clock = for_s, clock
        self._lock = threading.Lock()
        self._readings: OrderedDict[Hashable, _Reading] = OrderedDict()

    def get(self, name: Hashable, read: Callable[[], Any]) -> Any:
        """The reading of that name; those who ask while it is made wait for it. What ``read`` raises is not kept."""
        with self._lock:
            reading = self._readings.setdefault(name, _Reading())
            self._readings.move_to_end(name)
            while len(self._readings) > _MOST:
                self._readings.popitem(last=False)
        with reading.lock:
            if self._clock() >= reading.until:
                began = self._clock()
                reading.content = read()
                ended = self._clock()
                reading.until = ended + max(self._for_s, 10 * (ended - began))
            return reading.content
