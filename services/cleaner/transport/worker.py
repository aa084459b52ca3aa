"""Runs an app until a signal or a crash, and says with which code to exit."""

import asyncio
import logging
import os
import threading

from services.cleaner.transport.app import App

log = logging.getLogger(__name__)

# Faust tells its life (that of the services here under our name), and aiokafka every failed heartbeat; what matters
# of it ends the worker, and is said then.
QUIET = {
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    __name__.rpartition(".")[0]: logging.WARNING,
    "faust.agents": logging.CRITICAL,
    "aiokafka": logging.CRITICAL,
}

# How often the event is looked at: another thread sets it.
LOOK_S = 0.1

# Longer than any clean stop takes: a chunk's grace, a commit, leaving the group.
STOP_TIMEOUT_S = 30.0


def run(app: App, stop: threading.Event) -> int:
    """Run ``app`` until ``stop`` is set or it crashes.

    Either way it stops in order: agents finish the chunk in hand, offsets are committed, the group is left.
    Returns 0 after a stop; after a crash the ``exit_code`` of the exception, or 1 if it has none.  What does not stop
    within STOP_TIMEOUT_S is left behind: the process ends at once, with that code or 1.
    """
    for name, level in QUIET.items():
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(level)
    return asyncio.run(_run(app, stop))


async def _run(app: App, stop: threading.Event) -> int:
    app.loop = asyncio.get_running_loop()
    running = [asyncio.ensure_future(work) for work in (_until_set(stop), app.failed.wait(), _crash(app))]
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for future in running:
        future.cancel()
    reason = app.failure or app.crash_reason
    if reason is not None:
        known = hasattr(reason, "exit_code")
        log.error("stopping: %s", reason if known else repr(reason), exc_info=None if known else reason)
    # Not wait_for(): mode takes the cancellation for an end, and goes on with the next service.
    stopping_app = asyncio.ensure_future(app.stop())
    await asyncio.wait({stopping_app}, timeout=STOP_TIMEOUT_S)
    if not stopping_app.done():
        log.error("did not stop within %.0f s", STOP_TIMEOUT_S)
        logging.shutdown()
        # The interpreter would wait for the consumer's thread, which waits for a broker.
        os._exit(getattr(reason, "exit_code", 1))
    stopping_app.result()
    reason = reason or app.failure
    return 0 if reason is None else getattr(reason, "exit_code", 1)


async def _until_set(stop: threading.Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(LOOK_S)


async def _crash(app: App) -> None:
    """Start the app and return when a part of it, other than an agent, has crashed."""
    try:
        await app.start()
    except Exception as error:
        app.crash_reason = app.crash_reason or error
        return
    await app.wait()
