"""The whole pipeline under load on private servers: is the rate kept, does lag grow, is the outcome right?

LOAD_SECONDS (120), GENERATOR_SALES_PER_S (5000) and GENERATOR_CHANGES_PER_S (500) say how much.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console

from commands.demo.pipeline import Pipeline, Service
from commands.embedded.processes import ProcessGroup
from commands.embedded.settings import Ports
from commands.embedded.stack import Stack
from commands.init import InitSettings, initialise
from commands.status.lag import lags
from commands.status.status import Status, look
from commands.verify.run import verify
from retail_stream.settings import Connections
from retail_stream.topics import Group
from retail_stream.waiting import wait_for
from retail_stream.warehouse import positions, postgres

_PATIENCE_S = 300.0


def main() -> int:
    """Print rate kept / target and, per group, late lag / early lag; 0 if the pipeline drained and `verify` passed."""
    seconds = int(os.environ.get("LOAD_SECONDS", "120"))
    rates = {
        "GENERATOR_SALES_PER_S": os.environ.get("GENERATOR_SALES_PER_S", "5000"),
        "GENERATOR_CHANGES_PER_S": os.environ.get("GENERATOR_CHANGES_PER_S", "500"),
    }
    with tempfile.TemporaryDirectory(prefix="stack-") as folder:
        Path(folder).chmod(0o711)
        with Stack(Path(folder) / "state", Ports.free()) as stack, ProcessGroup() as group:
            variables = {name.lower(): value for name, value in stack.env.items()}
            initialise(InitSettings.model_validate(variables))
            connections = Connections(**variables)  # type: ignore[arg-type]
            pipeline = Pipeline(group, {**stack.env, **rates}, stack.home.logs)
            for service in reversed(Service):
                pipeline.start(service)
            return _measure(connections, pipeline, seconds, [float(r) for r in rates.values()])


def _measure(connections: Connections, pipeline: Pipeline, seconds: int, rates: list[float]) -> int:
    engine = postgres.engine(connections.database_url)

    def now() -> Status:
        return wait_for(lambda: look(engine, connections), _PATIENCE_S)

    def behind() -> dict[Group, int]:
        # Lag alone: counting the warehouse's rows each second would cost the pipeline more and more.
        def ask() -> dict[Group, int]:
            with postgres.outages(engine), engine.connect() as connection:
                passed = positions.stored(connection)
            return lags(connections, passed)

        return wait_for(ask, _PATIENCE_S)

    while now().facts == 0:
        time.sleep(0.5)
    began, first = time.monotonic(), now()
    seen: list[dict[Group, int]] = []
    while time.monotonic() - began < seconds:
        time.sleep(1)
        seen.append(behind())
    took, last = time.monotonic() - began, now()
    target = (rates[0] + 3 * rates[1]) * took
    print(f"load: {rates[0]:,.0f} sales/s and 3 x {rates[1]:,.0f} changes/s for {took:.0f} s")
    print(f"load: rate kept / target = {(last.produced - first.produced) / target:.3f}")
    quarter = max(1, len(seen) // 4)
    for group in Group:
        early, late = (
            statistics.median(s[group] for s in part) for part in (seen[quarter : 2 * quarter], seen[-quarter:])
        )
        print(
            f"load: {group} lag in the last quarter / in the second = {late / max(early, 1):.2f}"
            f" (medians {late:,.0f} and {early:,.0f} records)"
        )
    pipeline.stop(Service.GENERATOR)
    deadline = time.monotonic() + _PATIENCE_S
    while not now().drained:
        if time.monotonic() > deadline:
            print(f"load: not drained within {_PATIENCE_S:.0f} s")
            return 1
        time.sleep(0.5)
    return verify(connections, Console(highlight=False))
