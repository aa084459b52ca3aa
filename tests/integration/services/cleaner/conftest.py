"""The topics and the cleaners of these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.servers import Servers
from tests.integration.services.cleaner.world import World


@pytest.fixture
def world(empty_stack: Servers, tmp_path: Path) -> Iterator[World]:
    """No cleaner runs, and the group's offsets are behind what earlier tests left in the raw topics."""
    world = World(empty_stack, tmp_path / "cleaner.log")
    yield world
    world.close()
