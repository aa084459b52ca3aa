"""Outages upstream, then `kill -9` of aggregators, twenty times, under load, two at work.

Between the kills Postgres and the broker are killed twice each, and a third aggregator joins and leaves twice. At the
end `verify` compares the sums to the cent, and `sales.windows`: each revision of each window once.

One story in the order of this file; the generator is running all the while.
"""

import os
import random
import signal
from collections.abc import Callable

import pytest
from sqlalchemy import text

from commands.demo.pipeline import Pipeline, Service
from commands.embedded.servers import Server
from commands.verify.run import run
from retail_stream.waiting import wait_for
from tests.system.conftest import Running
from tests.system.evidence import evidence

pytestmark = pytest.mark.long
KILLS = 20
SERVER_DIES = {5: Server.POSTGRES, 8: Server.KAFKA, 13: Server.POSTGRES, 16: Server.KAFKA}
A_THIRD_COMES = (3, 11)
#: Sales a second; GENERATOR_SALES_PER_S in the environment chooses another rate.
RATE = int(os.environ.get("GENERATOR_SALES_PER_S", "200"))
#: Nothing that the generator plants is late: sales lag by less than the watermark does.
SETTINGS = {
    "GENERATOR_SALES_PER_S": str(RATE),
    "GENERATOR_CHANGES_PER_S": "5",
    "LATENCY_MAX_S": "2",
    "GENERATOR_FAULT_DUPLICATE": "0",
    "SALES_WINDOWS": "5s,20s/5s",
    "WATERMARK_DELAY_S": "3",
    "ALLOWED_LATENESS_S": "6",
    "IDLE_TIMEOUT_S": "2",
}
#: What is planted for the kills: sales that are too late for some of their windows, or for all, and duplicates.
HARDER = {
    "LATENCY_MAX_S": "40",
    "GENERATOR_FAULT_LATE_EVENT": "0.2",
    "GENERATOR_FAULT_DUPLICATE": "0.02",
}
#: Five times what a silent partition is waited for.
OUTAGE_S = 10


def claims_and_positions(running: Running) -> tuple[int, int]:
    """Sums over the aggregator's partitions."""
    query = text("SELECT sum(epoch), sum(next_offset) FROM consumer_positions WHERE consumer_group = 'aggregator'")
    with running.warehouse.connect() as connection:
        epochs, positions = connection.execute(query).one()
    return int(epochs or 0), int(positions or 0)


def goes_on(running: Running, by: int) -> Callable[[], bool]:
    """Whether this many more sales have been taken, from now on."""
    start = wait_for(lambda: claims_and_positions(running), patience_s=60)[1]
    return lambda: wait_for(lambda: claims_and_positions(running), patience_s=60)[1] >= start + by


def joined(running: Running, pipeline: Pipeline) -> None:
    """Wait until an aggregator that was just started has its share of the partitions."""
    log = pipeline.log(Service.AGGREGATOR)
    running.meanwhile(lambda: "assigned" in log.read_text(), "another aggregator gets its share")


def test_an_outage_upstream_and_a_partition_that_nobody_owns_make_no_sale_late(running: Running) -> None:
    running.flows_on()
    assert running.pipeline.stop(Service.CLEANER) == 0
    del running.pipeline.processes[Service.CLEANER]
    produced = running.status().produced
    running.until(lambda s: s.produced > produced + OUTAGE_S * RATE, "sales wait for a cleaner")
    running.pipeline.start(Service.CLEANER)
    running.flows_on()

    second = running.twin("second")
    second.start(Service.AGGREGATOR)
    joined(running, second)
    running.meanwhile(goes_on(running, RATE), "both go on")
    # Until its session ends, its partitions have no owner. The other worker reads its own partitions meanwhile.
    second.processes[Service.AGGREGATOR].kill()
    running.meanwhile(goes_on(running, OUTAGE_S * RATE), "the first one takes over")
    status = running.status()
    assert status.windows.get("final"), "windows close"
    assert status.late == 0


@pytest.fixture(scope="module")
def pair(running: Running) -> tuple[Pipeline, Pipeline]:
    """Two aggregators in the place of the first one, under a harder load."""
    pipelines = running.twin("left"), running.twin("right")
    for pipeline in pipelines:
        pipeline.start(Service.AGGREGATOR)
    for service in (Service.AGGREGATOR, Service.GENERATOR):
        assert running.pipeline.stop(service) == 0
    del running.pipeline.processes[Service.AGGREGATOR]
    running.pipeline.start(Service.GENERATOR, **HARDER)
    return pipelines


@pytest.mark.parametrize("kill", range(KILLS))
def test_aggregators_go_on_after_each_of_twenty_kills(
    running: Running, pair: tuple[Pipeline, Pipeline], kill: int
) -> None:
    # The second of a pair dies while the first one's partitions wait for the group to miss it.
    by = random.Random(kill).randrange(1, 3 * RATE)
    running.meanwhile(goes_on(running, by), f"aggregators go on before kill {kill}")
    pair[kill % 2].processes[Service.AGGREGATOR].kill()
    if server := SERVER_DIES.get(kill):
        running.stack.kill(server)
        running.stack.start(server)
        running.stack.wait_ready(server)
    if kill % 2:
        for pipeline in pair:
            pipeline.start(Service.AGGREGATOR)
    if kill in A_THIRD_COMES:
        third = running.twin(f"third-{kill}")
        third.start(Service.AGGREGATOR)
        joined(running, third)
        assert third.stop(Service.AGGREGATOR) == 0


def test_a_frozen_aggregator_does_not_stop_the_other(running: Running, pair: tuple[Pipeline, Pipeline]) -> None:
    frozen = pair[0].processes[Service.AGGREGATOR]
    for _ in range(3):
        running.meanwhile(goes_on(running, RATE), "both go on")
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            running.meanwhile(goes_on(running, OUTAGE_S * RATE), "the other goes on")
        finally:
            os.kill(frozen.pid, signal.SIGCONT)


def test_after_all_kills_everything_is_counted_and_published_once(running: Running) -> None:
    claims, positions = wait_for(lambda: claims_and_positions(running), patience_s=60)
    status = running.drain()
    report = run(running.connections)
    assert report.ok, evidence(running, report)
    assert status.late > 0
    print(f"{KILLS} kills: {positions:,} sales taken when the last was over, partitions claimed {claims} times")
    print(f"{status.facts:,} facts, {sum(status.windows.values()):,} windows by store, {status.late:,} sales late")
