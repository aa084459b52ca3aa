"""Retry a condition to a deadline: the one way in which tests wait."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
WITHIN_S = 120.0
#: Several times what any wait of the whole pipeline takes here: slower machines run these tests, too.
PATIENCE_S = 300.0


def eventually(
    condition: Callable[..., T],
    what: str | Callable[[], str],
    within_s: float = WITHIN_S,
    *,
    every_s: float = 0.05,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
) -> T:
    """Call ``condition``, without arguments, until it returns something true; return that.

    Args:
        what: names the condition, or says what is there instead; a failure shows it.
        within_s: the test fails if the condition is still false after this many seconds.
        every_s: the pause between two calls.
        retry_on: exceptions that mean "not yet"; any other ends the wait.
    """
    deadline = time.monotonic() + within_s
    while True:
        last: Exception | None = None
        try:
            if found := condition():
                return found
        except retry_on as e:
            last = e
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within_s:g} s: {what() if callable(what) else what}") from last
        time.sleep(every_s)
