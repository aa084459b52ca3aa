"""`kill -9` of mergers, twenty times, under load, two at work: afterwards every version is what the raw topics say.

Between the kills Postgres is killed twice, and a third merger joins and leaves twice.
"""

import random
from collections.abc import Callable

import pytest
from sqlalchemy import text

from commands.demo.pipeline import Service
from commands.embedded.servers import Server
from commands.verify.run import run
from retail_stream.waiting import wait_for
from tests.system.conftest import Running
from tests.system.evidence import evidence

pytestmark = pytest.mark.long
KILLS = 20
POSTGRES_DIES, A_THIRD_COMES = (6, 14), (3, 11)
#: Only the merger is killed, so sales are few. Low rates bound what a slow machine piles up until `verify` reads it.
LOAD = {"GENERATOR_SALES_PER_S": "20", "GENERATOR_CHANGES_PER_S": "100"}


def claims_and_positions(running: Running) -> tuple[int, int]:
    """Sums over the merger's partitions."""
    query = text("SELECT sum(epoch), sum(next_offset) FROM consumer_positions WHERE consumer_group = 'scd_merger'")
    with running.warehouse.connect() as connection:
        epochs, positions = connection.execute(query).one()
    return int(epochs or 0), int(positions or 0)


def test_mergers_that_are_killed_twenty_times_lose_nothing(running: Running) -> None:
    rng = random.Random(20)
    pipelines = running.twin("first"), running.twin("second")
    for pipeline in pipelines:
        pipeline.start(Service.SCD_MERGER)
    for service in (Service.SCD_MERGER, Service.GENERATOR):
        assert running.pipeline.stop(service) == 0
    del running.pipeline.processes[Service.SCD_MERGER]
    running.pipeline.start(Service.GENERATOR, **LOAD)

    def look() -> tuple[int, int]:
        return wait_for(lambda: claims_and_positions(running), patience_s=60)

    def moves(by: int) -> Callable[[], bool]:
        start = look()[1]
        return lambda: look()[1] >= start + by

    for kill in range(KILLS):
        # The second of a pair dies while the first one's partitions wait for the group to miss it.
        running.meanwhile(moves(rng.randrange(1, 800)), f"mergers go on before kill {kill}")
        pipelines[kill % 2].processes[Service.SCD_MERGER].kill()
        if kill in POSTGRES_DIES:
            running.stack.kill(Server.POSTGRES)
            running.stack.start(Server.POSTGRES)
            running.stack.wait_ready(Server.POSTGRES)
        if kill % 2:
            for pipeline in pipelines:
                pipeline.start(Service.SCD_MERGER)
        if kill in A_THIRD_COMES:
            third = running.twin(f"third-{kill}")
            third.start(Service.SCD_MERGER)
            log = third.log(Service.SCD_MERGER)
            running.meanwhile(lambda log=log: "assigned" in log.read_text(), "the third one gets its share")
            assert third.stop(Service.SCD_MERGER) == 0
    claims, positions = look()
    status = running.drain()
    report = run(running.connections)
    assert report.ok, evidence(running, report)
    assert status.versions > 0
    print(f"{KILLS} kills: {positions:,} changes taken when the last was over, partitions claimed {claims} times")
