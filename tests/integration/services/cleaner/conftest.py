"""Servers of these tests alone: they run real cleaners on the real topics, kill them, and kill the servers, too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.servers import Servers, initialised, private_stack
from tests.integration.services.cleaner.world import World


@pytest.fixture(scope="package")
def own_stack() -> Iterator[Servers]:
    with private_stack() as stack:
        initialised(stack)
        yield stack


@pytest.fixture
def world(own_stack: Servers, tmp_path: Path) -> Iterator[World]:
    """No cleaner runs, and what earlier tests left in the raw topics is behind the group."""
    world = World(own_stack, tmp_path / "cleaner.log")
    yield world
    world.close()
