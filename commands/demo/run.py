"""`retail-stream demo` and `retail-stream up`: the whole pipeline on the embedded stack, with live progress.

Start servers → init → start services → show the progress, and in the demo:
stop the generator → drain → verify → score → query the warehouse.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field
from rich.console import Console
from rich.live import Live
from sqlalchemy import Engine

from commands.demo import questions
from commands.demo.pipeline import Pipeline, Service
from commands.dlq import load as dead_letters
from commands.embedded.home import Home
from commands.embedded.processes import ProcessGroup
from commands.embedded.settings import EmbeddedSettings, free_ports, is_free
from commands.embedded.stack import Stack
from commands.init import InitSettings, initialise
from commands.progress import Shown
from commands.score import command as score
from commands.status import status
from commands.status.steady import Arrivals, Steady
from commands.verify.run import verify
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.service.metrics import MetricsPort
from retail_stream.settings import SERVERS, Connections, Settings, load
from retail_stream.waiting import wait_for
from retail_stream.warehouse import postgres

_UPDATE_EVERY_S = 1.0
_START_S = 120.0
_DRAIN_S = 180.0
_USUAL_PORT = 8080
_PAGE_S = 30.0


class PageSettings(Settings):
    """The port of the dashboard; 0 for 8080 if it is free, else any free one."""

    dashboard_port: MetricsPort = 0


class DemoSettings(Settings):
    """The length of the demo."""

    demo_seconds: Annotated[int, Field(ge=1, le=86_400, description="seconds of traffic, from 1 to 86400")] = 60


def demo(console: Console) -> int:
    """Run the bounded demo; returns 0 only if `verify` passed and `score` reports no missed fault.

    Raises:
        RetailStreamError: a server or service could not start, or a service ended by itself.
    """
    seconds = load(DemoSettings).demo_seconds
    with _pipeline(console) as (pipeline, connections, engine):
        _await_traffic(console, pipeline, connections)
        console.rule(f"{seconds} s of traffic")
        _show_progress(console, pipeline, connections, engine, until=time.monotonic() + seconds)
        console.rule("drain")
        pipeline.stop(Service.GENERATOR)
        del pipeline.processes[Service.GENERATOR]
        _drain(console, pipeline, connections, engine)
        dead_letters.load(connections)
        console.rule("verify: recompute everything from the raw topics with another engine")
        code = verify(connections, console)
        console.rule("score: compare the planted faults with what was handled")
        code = score.score(connections, console) or code
        console.rule("four questions to the warehouse")
        questions.show(console, engine)
    if code == 0:
        console.print(f"\n[bold green]Verified.[/] Logs: {pipeline.logs}")
        console.print("Topics and warehouse are kept: `make up` continues with them,")
        console.print("`.venv/bin/retail-stream infra --reset` deletes them.")
    return code


def up(console: Console) -> int:
    """Run until Ctrl-C; returns 0.

    Raises:
        RetailStreamError: a server or service could not start, or a service ended by itself.
    """
    with _pipeline(console) as (pipeline, connections, engine), contextlib.suppress(KeyboardInterrupt):
        console.print("The pipeline runs until Ctrl-C. For your own tools:")
        for name in SERVERS:
            console.print(f"  export {name.upper()}={os.environ[name.upper()]}", highlight=False, soft_wrap=True)
        for service, at in pipeline.metrics_ports.items():
            console.print(f"  {service}: http://127.0.0.1:{at}/metrics", highlight=False, soft_wrap=True)
        _show_progress(console, pipeline, connections, engine, until=float("inf"))
    return 0


@contextlib.contextmanager
def _pipeline(console: Console) -> Iterator[tuple[Pipeline, Connections, Engine]]:
    """Start servers and services, create topics and tables; at the end, stop everything that was started."""
    port = _dashboard_port()
    with contextlib.ExitStack() as exits:
        logs = exits.enter_context(_servers(console))
        initialise(load(InitSettings))
        connections = load(Connections)
        engine = postgres.engine(connections.database_url)
        exits.callback(engine.dispose)
        pipeline = Pipeline(exits.enter_context(ProcessGroup()), {}, logs, usual_ports=True)
        page = pipeline.start_dashboard(port)
        for service in (Service.CLEANER, Service.SCD_MERGER, Service.AGGREGATOR, Service.GENERATOR):
            pipeline.start(service)
        console.print(_await_page(pipeline, page), soft_wrap=True)
        yield pipeline, connections, engine


def _dashboard_port() -> int:
    """The port of DASHBOARD_PORT; without it 8080 if it is free, else any free one.

    Raises:
        SettingsError: DASHBOARD_PORT is not a valid port.
    """
    if chosen := load(PageSettings).dashboard_port:
        return chosen
    return _USUAL_PORT if is_free(_USUAL_PORT) else free_ports(1)[0]


def _await_page(pipeline: Pipeline, page: str, patience_s: float = _PAGE_S) -> str:
    """Wait for the page; returns a sentence with its URL, or why there is none. The flow does not need it."""
    process, deadline = pipeline.dashboard, time.monotonic() + patience_s
    port = int(page.rpartition(":")[2])
    while process is not None and process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return f"Dashboard: {page}"
        time.sleep(0.1)
    if process is None or process.poll() is None:
        return f"The dashboard has not started within {patience_s:.0f} s; its URL will be {page}"
    return f"The dashboard did not start: {process.last_lines(1)}"


@contextlib.contextmanager
def _servers(console: Console) -> Iterator[Path]:
    """Use the running embedded stack or start one, and set its variables; yields the directory of logs."""
    settings = load(EmbeddedSettings)
    home = Home(settings.home)
    running = home.running()
    if running is not None and running.ready:
        console.print("The embedded servers are already running.")
        os.environ.update(running.env)
        yield home.logs
        return
    console.print("Starting Kafka, the schema registry and Postgres ...")
    with Stack(
        settings.home,
        settings.ports,
        replaceable=settings.default_ports,
        cache=settings.cache,
        say=lambda sentence: console.print(f"  {sentence}", soft_wrap=True),
    ) as stack:
        os.environ.update(stack.env)
        yield stack.home.logs


def _await_traffic(console: Console, pipeline: Pipeline, connections: Connections) -> None:
    """Wait for the first records of this run: four Python programs start slowly on a small machine."""
    raw = topic_partitions(connections, *(topics.raw(e) for e in Entity))
    before = end_offsets(connections, raw)
    deadline = time.monotonic() + _START_S
    with Shown("Starting the services", console):
        while end_offsets(connections, raw) == before:
            _check_services(pipeline)
            if time.monotonic() > deadline:
                raise RetailStreamError(
                    f"The generator published no record within {_START_S:.0f} s; see the logs in {pipeline.logs}."
                )
            time.sleep(_UPDATE_EVERY_S / 4)


def _show_progress(
    console: Console, pipeline: Pipeline, connections: Connections, engine: Engine, until: float
) -> None:
    """Show the status each second until ``until``: a table in a terminal, elsewhere a line."""
    steady, before, updated_at = Steady(Arrivals(connections)), None, time.monotonic()
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while time.monotonic() < until:
            _check_services(pipeline)
            # The services wait for a server that is away; meanwhile the numbers stand still.
            with contextlib.suppress(Unavailable):
                now, since = steady.next(status.look(engine, connections))
                updated_at = time.monotonic()
                if console.is_terminal:
                    live.update(status.as_table(now, since), refresh=True)
                elif before is not None:
                    console.print(status.as_line(now, since), soft_wrap=True)
                before = now
            time.sleep(max(0.0, min(until, updated_at + _UPDATE_EVERY_S) - time.monotonic()))
    if before is not None:
        console.print(status.as_table(before))


def _drain(console: Console, pipeline: Pipeline, connections: Connections, engine: Engine) -> None:
    deadline = time.monotonic() + _DRAIN_S
    most = 0
    with Shown("drain", console) as progress:
        while not (now := wait_for(lambda: status.look(engine, connections), _DRAIN_S)).drained:
            _check_services(pipeline)
            # Records that are rejected or published during the drain add to it.
            left = sum(now.lag.values()) + now.outbox
            most = max(most, left)
            progress.say(f"lag {sum(now.lag.values()):,}, outbox {now.outbox:,}; records done")
            progress.count(most - left, most)
            if time.monotonic() > deadline:
                raise RetailStreamError(
                    f"The pipeline did not drain within {_DRAIN_S:.0f} s; see the logs in {pipeline.logs}."
                )
            time.sleep(_UPDATE_EVERY_S / 4)
    console.print("Lag 0 in every group, outbox empty.")


def _check_services(pipeline: Pipeline) -> None:
    """Raise RetailStreamError if a service has ended by itself."""
    for service, code in pipeline.dead().items():
        last = pipeline.processes[service].last_lines()
        raise RetailStreamError(
            f"{service} ended with exit code {code}; the last lines of {pipeline.log(service)}: {last}"
        )
