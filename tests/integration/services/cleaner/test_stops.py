"""A stop ends a cleaner that waits for a server in the middle of its work, and loses nothing."""

import pytest

from commands.embedded.servers import Server
from retail_stream.entities import Entity
from tests.integration.services.cleaner.test_schemas import newer
from tests.integration.services.cleaner.world import World, assert_nothing_lost_or_invented, eventually


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
    world.started()
    world.drain()
    assert_nothing_lost_or_invented(world.outcome(), repeats=True)
