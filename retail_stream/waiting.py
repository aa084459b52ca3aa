"""How programs wait for a server that is away: services until they are to stop, commands for 30 s.

Both log one sentence that names the server, not one for each attempt.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_never,
    wait_exponential,
)

from retail_stream.errors import Unavailable

COMMAND_PATIENCE_S = 30.0
_REMIND_EVERY_S = 30.0
_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Stopped(Exception):
    """The program is to stop, and no longer waits for a server."""


class Outage:
    """Logs why something waits: at once, every 30 s after that, and once when it is over. Any thread may use it."""

    def __init__(self, settling_s: float = 0.0) -> None:
        """``settling_s``: how long after an end nothing begins: who has not noticed the end yet says the same again."""
        self._settling_s = settling_s
        self._since: float | None = None
        self._said_at = self._ended_at = -math.inf

    @property
    def lasts(self) -> bool:
        """Whether it waits."""
        return self._since is not None

    def says(self, why: str) -> None:
        """It waits, because of this; a sentence."""
        now = time.monotonic()
        if self._since is None:
            if now - self._ended_at < self._settling_s:
                return
            self._since, self._said_at = now, -math.inf
        if now - self._said_at >= _REMIND_EVERY_S:
            self._said_at = now
            _log.warning("waiting", why=why, waited_s=round(now - self._since))

    def ends(self) -> None:
        """It no longer waits."""
        if self._since is not None:
            self._since, self._ended_at = None, time.monotonic()
            _log.info("answered", after="waiting")


class Wait(Protocol):
    """:func:`wait_for` with its limits: what waits for a server on behalf of a caller that knows no limits."""

    def __call__(self, action: Callable[[], T], /) -> T:
        """The result of ``action``."""
        ...


def wait_for(action: Callable[[], T], patience_s: float | None = None, stop: threading.Event | None = None) -> T:
    """Call ``action`` until it no longer raises :class:`Unavailable`, with pauses from 0.2 s to 5 s.

    Raises:
        Unavailable: ``patience_s`` seconds have passed; None waits without a limit.
        Stopped: ``stop`` is set. It is looked at before each attempt, and it ends a pause.
    """
    outage = Outage()

    def attempt() -> T:
        if stop is not None and stop.is_set():
            raise Stopped
        return action()

    def warn(state: RetryCallState) -> None:
        assert state.outcome is not None
        outage.says(str(state.outcome.exception()))

    result = Retrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_exponential(multiplier=0.2, max=5),
        stop=stop_never if patience_s is None else stop_after_delay(patience_s),
        sleep=time.sleep if stop is None else sleep_using_event(stop),
        before_sleep=warn,
        reraise=True,
    )(attempt)
    outage.ends()
    return result
