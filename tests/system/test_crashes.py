"""`kill -9` of everything in turn, under load: afterwards `verify` finds nothing lost and nothing counted twice.

One story in the order of this file; the pipeline is running all the while.
"""

import pytest

from commands.demo.pipeline import Service
from commands.embedded.servers import Server
from commands.verify.run import run
from tests.system.conftest import Running
from tests.system.evidence import evidence

pytestmark = pytest.mark.long


@pytest.mark.parametrize("service", list(Service))
def test_a_service_that_is_killed_goes_on_when_it_is_started_again(running: Running, service: Service):
    running.flows_on()
    running.pipeline.processes[service].kill()
    running.pipeline.start(service)
    running.flows_on()


@pytest.mark.parametrize("server", [Server.KAFKA, Server.POSTGRES, Server.REGISTRY])
def test_a_server_that_is_killed_is_waited_for(running: Running, server: Server):
    running.flows_on()
    running.stack.kill(server)
    running.stack.start(server)
    running.stack.wait_ready(server)
    running.flows_on()


def test_after_all_that_the_warehouse_is_what_the_raw_topics_say(running: Running):
    status = running.drain()
    assert status.rejected > 0
    report = run(running.connections)
    assert report.ok, evidence(running, report)
