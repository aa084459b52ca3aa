"""Dimensions: defaults, histories, deletes."""

import pytest

from retail_stream.entities import Entity
from tests.unit.commands.score.world import World


def test_an_empty_email_gets_its_default(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 5, "null_email", "defaulted")
    world.raw(Entity.CUSTOMERS, 5, email=None)
    world.version(100, None, email="Unknown")
    world.clean(Entity.CUSTOMERS, 5, email="")
    assert world.why() == "its empty field has no default"
    world.engine.execute("UPDATE clean_customers SET email = 'Unknown'")
    assert world.handled


def test_a_default_is_in_the_history_too(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 5, "null_email", "defaulted")
    world.clean(Entity.CUSTOMERS, 5, email="Unknown")
    assert world.why() == "the history of its id is another"
    world.version(100, None, email="Unknown")
    assert world.handled


def test_an_update_out_of_order_takes_its_place_in_the_history(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "out_of_order_update", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5, last_update_time=100)
    world.clean(Entity.CUSTOMERS, 6, last_update_time=50, loyalty_points=5)
    world.version(100, None)
    assert world.why() == "the history of its id is another"
    world.version(50, 100, loyalty_points=5)
    assert world.handled
    world.version(20, 50, loyalty_points=4)
    assert world.why() == "the history of its id is another"


@pytest.mark.parametrize(
    ("made", "field"),
    [({"last_update_time": 900}, "last_update_time"), ({"customer_id": 8}, "customer_id"), ({"age": 31}, "age")],
)
def test_a_clean_change_is_the_one_that_was_published(world: World, made: dict, field: str) -> None:
    record = {"customer_id": 7, "last_update_time": 50, "loyalty_points": 5, "age": 30}
    world.planted(Entity.CUSTOMERS, 6, "out_of_order_update", "merged_in_order", number=record["customer_id"])
    world.raw(Entity.CUSTOMERS, 6, **record)
    changed = record | made
    world.clean(Entity.CUSTOMERS, 6, **changed)
    if changed["customer_id"] == 7:
        world.version(changed["last_update_time"], None, loyalty_points=5, age=changed["age"])
    assert world.why() == f"its clean record has another {field}"


def test_a_clean_change_can_be_read(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "no_change_update", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5)
    world.garbage(Entity.CUSTOMERS, 6)
    world.version(100, None)
    assert world.why() == "its clean record cannot be read"


def test_a_tombstone_closes_the_version(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.raw_deleted(6, 150)
    world.clean(Entity.CUSTOMERS, 5, last_update_time=100)
    world.deleted(6, 150)
    world.version(100, None)
    assert world.why() == "the history of its id is another"
    world.engine.execute("UPDATE dim_customers SET valid_to = 150, is_current = false")
    assert world.handled


@pytest.mark.parametrize("how", ["garbage", "clean"])
def test_a_tombstone_stays_one(world: World, how: str) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5)
    getattr(world, how)(Entity.CUSTOMERS, 6)
    world.version(100, None)
    assert world.why() == "its delete became a clean record"


def test_a_tombstone_keeps_its_time(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.raw_deleted(6, 150)
    world.clean(Entity.CUSTOMERS, 5)
    world.deleted(6, 170)
    world.version(100, 170)
    assert world.why() == "its clean record has another last_update_time"


def test_an_update_does_not_become_a_delete(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "no_change_update", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 5)
    world.deleted(6, 150)
    world.version(100, 150)
    assert world.why() == "its clean record is a delete"


def test_a_rejected_change_makes_no_version(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "future_event_time", "rejected")
    world.raw(Entity.CUSTOMERS, 6, last_update_time=900)
    world.clean(Entity.CUSTOMERS, 5)
    world.dead(Entity.CUSTOMERS, 6)
    world.version(100, None)
    assert world.handled
    world.engine.execute("UPDATE dim_customers SET valid_to = 900, is_current = false")
    world.version(900, None)
    assert world.why() == "it is a dead letter, and made a version"


def test_of_a_forgotten_id_only_changes_from_then_on_make_its_history(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 5, "null_email", "defaulted")
    world.clean(Entity.CUSTOMERS, 5, email="Unknown", last_update_time=100)
    world.deleted(6, 200)
    world.clean(Entity.CUSTOMERS, 7, last_update_time=300)
    world.version(300, None)
    assert world.why() == "the history of its id is another"
    world.engine.execute(
        "INSERT INTO forgotten VALUES ('stores', 7, 200), ('customers', 8, 200), ('customers', 7, 100)"
    )
    assert world.why() == "the history of its id is another"
    world.engine.execute("INSERT INTO forgotten VALUES ('customers', 7, 200)")
    assert world.handled
