"""Runs the agents and their feed until a stop or an error; the result is the exit code."""

import asyncio
import logging
import os
import threading
from collections.abc import Sequence

import structlog

from services.cleaner.channels import App
from services.cleaner.feed import Feed

# Faust logs each step of its services. An error that matters ends the program, which then logs it.
_QUIET = {
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    App.__module__: logging.WARNING,
    "faust.agents": logging.CRITICAL,
}
# How often the event is looked at: another thread sets it.
_LOOK_S = 0.1
# Longer than any clean stop takes: a chunk's grace, a commit, leaving the group.
_STOP_S = 20.0
_log = structlog.get_logger(__name__)


async def run(app: App, feed: Feed, stop: threading.Event) -> int:
    """Run until ``stop`` is set or something fails.

    Either way it stops in order: agents finish their chunks, positions are committed, the group is left. Returns 0
    after a stop; after a failure the ``exit_code`` of the exception, or 1 if it has none. If that takes longer than
    20 s, the process ends at once, with that code or 1.
    """
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    app.loop = asyncio.get_running_loop()
    await app.start()
    feeding = asyncio.create_task(feed.run())
    waiting = [feeding, asyncio.create_task(_until_set(stop)), asyncio.create_task(app.failed.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    reason = app.failure or (feeding.exception() if feeding.done() else None)
    if reason is not None:
        known = hasattr(reason, "exit_code")
        _log.error("stopping", why=str(reason) if known else repr(reason), exc_info=None if known else reason)
    stopping = asyncio.ensure_future(_stop(app, feed, waiting))
    await asyncio.wait({stopping}, timeout=_STOP_S)
    if not stopping.done():
        _log.error("does not stop", within_s=_STOP_S)
        logging.shutdown()
        os._exit(getattr(reason, "exit_code", 1))
    stopping.result()
    reason = reason or app.failure
    return 0 if reason is None else getattr(reason, "exit_code", 1)


async def _stop(app: App, feed: Feed, waiting: Sequence[asyncio.Task[object]]) -> None:
    await feed.stop()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await app.stop()


async def _until_set(stop: threading.Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(_LOOK_S)
