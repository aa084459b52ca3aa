"""Consumer groups: members that were killed are removed at once, instead of after their session timeout."""

import asyncio
from collections.abc import Iterable
from functools import partial

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.group import LeaveGroupRequest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

from retail_stream.topics import Group
from tests.harness.eventually import eventually


def remove_members(admin: AdminClient, brokers: str, *groups: str) -> None:
    """Remove every member of the groups, of all services if none is named; a member that still lives joins again."""
    # One at a time: the client takes several members of an enum for the same group. A broker that has just started does
    # not know yet that it coordinates the groups.
    found = {
        str(group): eventually(
            partial(_described, admin, group), f"the group {group} is described", retry_on=KafkaException
        )
        for group in groups or Group
    }
    members = {group: [m.member_id for m in described.members] for group, described in found.items()}
    if any(members.values()):
        asyncio.run(_remove(brokers, members))


def _described(admin: AdminClient, group: str) -> ConsumerGroupDescription:
    (described,) = admin.describe_consumer_groups([group]).values()
    return described.result(10)


async def _remove(brokers: str, members: dict[str, list[str]]) -> None:
    client = AIOKafkaClient(bootstrap_servers=brokers)
    try:
        await client.bootstrap()
        for group, ids in members.items():
            coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
            await client.ready(coordinator)
            await _leave(client, coordinator, group, ids)
    finally:
        await client.close()


async def _leave(client: AIOKafkaClient, coordinator: int, group: str, ids: Iterable[str]) -> None:
    for member in ids:
        await client.send(coordinator, LeaveGroupRequest(group, member))
