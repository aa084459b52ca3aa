"""What to do while a server is away: services wait for it, commands give up after 30 s.

Either way there is one sentence that names the server, not one per attempt.
"""

from collections.abc import Callable
from typing import TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, stop_never, wait_exponential

from retail_stream.errors import Unavailable

COMMAND_PATIENCE_S = 30.0
_REMIND_EVERY_S = 30.0
_log = structlog.get_logger(__name__)

T = TypeVar("T")


def wait_for(action: Callable[[], T], patience_s: float | None = None) -> T:
    """Call ``action`` until it stops raising :class:`Unavailable`, with backoff from 0.2 s to 5 s.

    ``patience_s``: give up, and raise the last :class:`Unavailable`, after that many seconds; None waits for ever.
    """
    said_at = -_REMIND_EVERY_S

    def say(state: RetryCallState) -> None:
        nonlocal said_at
        waited = state.seconds_since_start or 0.0
        if waited - said_at >= _REMIND_EVERY_S and state.outcome is not None:
            said_at = waited
            _log.warning("waiting", why=str(state.outcome.exception()), waited_s=round(waited))

    answer = Retrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_exponential(multiplier=0.2, max=5),
        stop=stop_never if patience_s is None else stop_after_delay(patience_s),
        before_sleep=say,
        reraise=True,
    )(action)
    if said_at >= 0:
        _log.info("answered", after="waiting")
    return answer
