"""A stop ends a cleaner that waits for a server in the middle of its work, and loses nothing."""

import pytest

from commands.embedded.servers import Server
from retail_stream.entities import Entity
from tests.harness.eventually import eventually
from tests.integration.services.cleaner.test_schemas import newer
from tests.integration.services.cleaner.world import World, assert_nothing_lost_or_invented


@pytest.mark.long
@pytest.mark.parametrize("server", [Server.REGISTRY, Server.KAFKA])
def test_a_stop_in_the_middle_of_a_wait_ends_the_cleaner(world: World, server: Server):
    cleaner = world.started()
    new = newer(world, Entity.SALES, f"before_{server}", **{f"before_{server}": "x"})
    if server is Server.REGISTRY:
        world.stack.kill(server)
        world.send(Entity.SALES, new)
    else:
        # More than it is done with when the broker dies.
        world.send(Entity.CUSTOMERS, *[world.value(Entity.CUSTOMERS)] * 50_000)
        eventually(lambda: world.delivered(Entity.CUSTOMERS) > 0, "it delivers", every_s=0)
        world.stack.kill(server)
    try:
        eventually(lambda: "does not answer" in world.log.read_text(), "it waits for the server")
        assert cleaner.stop() == 0
    finally:
        world.stack.start(server)
        world.stack.wait_ready(server)
    world.reconnect()
    world.started()
    world.drain()
    assert_nothing_lost_or_invented(world.outcome(), repeats=True)


def test_too_many_rejects_end_the_cleaner_when_their_batch_is_delivered_and_acknowledged(world: World):
    world.send(Entity.SALES, *[world.value(Entity.SALES)[:-1]] * 12_000)
    cleaner = world.start()
    assert cleaner.process.wait(60) == 3
    assert "100% of the last 10,000 sales records were rejected" in world.log.read_text()
    out = world.outcome()
    assert_nothing_lost_or_invented(out)
    assert len(out.dead) == 12_000
    assert world.committed()["sales.raw", 0] == max(place.offset for place in out.raw) + 1
