"""Aggregator processes on a warehouse of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from retail_stream.kafka import clients
from retail_stream.settings import Connections
from retail_stream.topics import Group
from tests.harness.groups import remove_members
from tests.integration.services.aggregator.world import Aggregators


@pytest.fixture
def aggregators(connections: Connections, tmp_path: Path) -> Iterator[Aggregators]:
    with Aggregators(connections, tmp_path / "aggregator.log") as running:
        yield running
    remove_members(clients.admin(connections), connections.kafka_bootstrap_servers, Group.AGGREGATOR)
