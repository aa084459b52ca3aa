"""Everything that can be wrong with a source at once, services killed at random: `score` finds every fault handled.

HOSTILE_SECONDS in the environment says for how long; ten minutes and more are for a run by hand.
"""

import os
import random
import time

import pytest
from sqlalchemy import text

from commands.demo.pipeline import Service
from commands.score import command as score
from commands.verify.run import run
from tests.system.conftest import Running
from tests.system.evidence import evidence

pytestmark = pytest.mark.long
SETTINGS = {"GENERATOR_PROFILE": "hostile"}
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "45"))
#: What is done to the warehouse by hand, one after the other; the fault that shows it; what is said of it.
BREAKS = (
    (
        """DELETE FROM fact_sales WHERE (tableoid, ctid) = (
               SELECT tableoid, ctid FROM fact_sales WHERE quantity < 0 LIMIT 1) RETURNING 1""",
        "return",
        "it has no fact",
    ),
    (
        """UPDATE sales_by_window w SET transactions = transactions + 1 FROM (
               SELECT store_id, event_time FROM fact_sales WHERE quantity < 0 ORDER BY event_time DESC LIMIT 1) f
           WHERE w.store_id = f.store_id AND f.event_time >= w.window_start AND f.event_time < w.window_end
           RETURNING 1""",
        "return",
        "its window counts more sales than were in time for it",
    ),
    (
        """DELETE FROM dim_customers WHERE customer_sk = (
               SELECT min(customer_sk) FROM dim_customers WHERE email = 'Unknown') RETURNING 1""",
        "null_email",
        "the history of its id is another",
    ),
)


def test_a_hostile_source_and_random_kills_leave_no_fault_unhandled(running: Running) -> None:
    rng, until, kills = random.Random(7), time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        victim = rng.choice(list(Service))
        running.pipeline.processes[victim].kill()
        running.pipeline.start(victim)
        kills += 1
        running.flows_on()
    beside = score.run(running.connections)
    assert beside.ok, beside
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
    for broken, fault, why in BREAKS:
        with running.warehouse.begin() as connection:
            assert len(connection.execute(text(broken)).all()) == 1
        missed = {f.fault: f.examples for f in score.run(running.connections).faults if f.missed}
        assert fault in missed, (broken, missed)
        assert any(example.endswith(why) for example in missed[fault]), (broken, missed)
