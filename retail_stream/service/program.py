"""The start and the end of every service: settings, logs, metrics, signals, exit codes.

A service has this shape::

    def main() -> int:
        return run_program("cleaner", CleanerSettings, clean)

    def clean(program: Program, settings: CleanerSettings) -> None:
        program.wait(...)                       # for servers; a signal ends the program here
        program.health.needs(assigned=...)      # what /readyz asks
        program.starts(kafka=...)               # from here on a signal sets program.stop
        while not program.stop.is_set():
            ...
"""

import gc
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

import structlog

from retail_stream import variables
from retail_stream.errors import RetailStreamError, SettingsError
from retail_stream.service import logs, metrics, signals
from retail_stream.settings import Settings, load
from retail_stream.waiting import Stopped, wait_for

S = TypeVar("S", bound=Settings)
T = TypeVar("T")

_log = structlog.get_logger("program")


class Program:
    """What a service gets from its start: when to stop, how to wait, what makes it ready."""

    def __init__(self, name: str) -> None:
        """``name``: of the service, as its log lines have it."""
        self.name = name
        #: set by SIGTERM or SIGINT
        self.stop = threading.Event()
        self.health = metrics.Health()
        self._has_started = False

    def wait(self, action: Callable[[], T]) -> T:
        """Call ``action`` until the server that it needs answers; any thread may do so.

        Raises:
            Stopped: the program is to stop; :func:`run_program` takes it for a normal end.
        """
        return wait_for(action, stop=self.stop)

    def starts(self, **facts: object) -> None:
        """Say that the work begins, with these facts. A signal sets ``stop`` from now on; before, it ends the program.

        Call it before the program holds anything that an end at once would lose.
        """
        self._has_started = True
        _log.info(f"{self.name} starts", **facts)

    def on_signal(self) -> None:
        """What the first signal does; in a thread of its own, as the main thread may be in a long call."""
        if self._has_started:
            self.stop.set()
            return
        _log.info(f"{self.name} stopped", exit_code=0)
        leave(0)


def run_program(name: str, settings: type[S], work: Callable[[Program, S], int | None]) -> int:
    """Run a service; returns the exit code. Its metrics are served if it has the setting METRICS_PORT.

    The code is what ``work`` returns (None: 0), also after SIGTERM and SIGINT; of a :class:`RetailStreamError` it is
    ``exit_code``: 2 for a wrong setting, which is one sentence on stderr, and 1 for what a person must look at.
    """
    program = Program(name)
    signals.listen(program.on_signal)
    try:
        logs.configure(name)
        config = load(settings)
        for sentence in variables.unknown(os.environ):
            _log.warning("unknown setting", why=sentence)
        port = getattr(config, "metrics_port", None)
        if port is not None:
            program.health = metrics.serve(port)
        code = work(program, config) or 0
    except Stopped:
        code = 0
    except SettingsError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    except RetailStreamError as e:
        _log.error(f"{name} stops", why=str(e), exit_code=e.exit_code)
        return e.exit_code
    _log.info(f"{name} stopped", exit_code=code)
    return code


def leave(code: int) -> NoReturn:
    """End the process at once; its work is done. What the interpreter would take apart, the system frees.

    Threads of Kafka clients may still hold objects of DuckDB, which would report them on stderr as leaks.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def collect_garbage_rarely() -> None:
    """Spare what exists now, and look for garbage among new objects once in 200,000 of them.

    To be called when a program is set up, if a batch may be many Python objects. In the cleaner a rejected record is
    several. At the default, 700, the collector costs a quarter more CPU where a tenth of the records are rejected, half
    more where all are, and nothing where none is.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
