"""Everything that can be wrong with a source at once, services killed at random: `score` finds every fault handled.

HOSTILE_SECONDS in the environment says for how long; ten minutes and more are for a run by hand.
"""

import os
import random
import time

from sqlalchemy import text

from retail_stream.pipeline import Service
from retail_stream.score import command as score
from retail_stream.verify.run import run

from .conftest import Running
from .evidence import evidence

SETTINGS = {"GENERATOR_PROFILE": "hostile"}
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "45"))


def test_a_hostile_source_and_random_kills_leave_no_fault_unhandled(running: Running) -> None:
    rng, until, kills = random.Random(7), time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        victim = rng.choice(list(Service))
        running.pipeline.processes[victim].kill()
        running.pipeline.start(victim)
        kills += 1
        running.flows_on(within_s=300)
    running.drain()

    result = score.run(running.connections)
    assert result.ok, result
    planted = {f.fault: f.planted for f in result.faults}
    assert sum(planted.values()) == sum(f.handled for f in result.faults)
    assert {"return", "negative_discount", "too_late_event", "duplicate", "tombstone", "corrupt_bytes"} <= set(planted)
    report = run(running.connections)
    assert report.ok, evidence(running, report)
    print(f"{kills} kills; {planted}")

    # And a fault that was not handled is found.
    with running.warehouse.begin() as connection:
        lost = connection.execute(
            text(
                "DELETE FROM fact_sales WHERE ctid = (SELECT min(ctid) FROM fact_sales WHERE quantity < 0) RETURNING 1"
            )
        )
        assert len(lost.all()) == 1
    missed = {f.fault: f.examples for f in score.run(running.connections).faults if f.missed}
    assert "return" in missed
    assert missed["return"][0].endswith("it has no fact")
