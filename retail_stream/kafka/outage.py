"""One sentence every 30 s while something is waited for."""

from time import monotonic

import structlog

_REMIND_EVERY_S = 30.0
_log = structlog.get_logger(__name__)


class Outage:
    """Logs why something waits: at once, every 30 s after that, and once when it is over."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said_at = 0.0

    def says(self, why: str) -> None:
        """It waits, because of this; a sentence."""
        now = monotonic()
        if self._since is None:
            self._since, self._said_at = now, now - _REMIND_EVERY_S
        if now - self._said_at >= _REMIND_EVERY_S:
            self._said_at = now
            _log.warning("waiting", why=why, waited_s=round(now - self._since))

    def ends(self) -> None:
        """It no longer waits."""
        if self._since is not None:
            self._since = None
            _log.info("answered", after="waiting")
