"""What is on its way is not missed; what is lost is not on its way; the report."""

import io
import json

import pytest
from rich.console import Console

from commands.score.command import show
from retail_stream.entities import Entity
from tests.unit.commands.score.world import World


def test_of_several_clean_records_of_a_place_the_first_counts(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 5, "burst", "kept")
    world.raw(Entity.CUSTOMERS, 5)
    world.clean(Entity.CUSTOMERS, 5)
    world.clean(Entity.CUSTOMERS, 5, age=31)
    world.version(100, None)
    assert world.handled


def test_what_the_pipeline_has_not_come_to_yet_is_on_its_way(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    world.at_position(Entity.SALES, passed=5, stored=4)
    assert world.on_its_way
    world.clean(Entity.SALES, 5, quantity=-1)
    assert world.on_its_way
    world.at_position(Entity.SALES, passed=6, stored=4)
    assert world.on_its_way
    world.at_position(Entity.SALES, passed=6, stored=5)
    assert world.why() == "it has no fact"


@pytest.mark.parametrize("lost", [False, True], ids=["a dead letter", "nowhere"])
def test_what_the_cleaner_threw_away_is_not_on_its_way(world: World, lost: bool) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    if not lost:
        world.dead(Entity.SALES, 5)
    world.at_position(Entity.SALES, passed=5, stored=4)
    assert world.on_its_way
    world.at_position(Entity.SALES, passed=6, stored=4)
    assert world.why() == ("it is not in the clean topic" if lost else "it is a dead letter")


def test_what_is_wrong_in_the_clean_topic_does_not_wait_for_the_warehouse(world: World) -> None:
    world.planted(Entity.CUSTOMERS, 6, "tombstone", "merged_in_order")
    world.clean(Entity.CUSTOMERS, 6)
    world.at_position(Entity.CUSTOMERS, passed=7, stored=5)
    assert world.why() == "its delete became a clean record"


def test_nothing_is_handled_before_the_warehouse_has_come_to_it(world: World) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.at_position(Entity.SALES, passed=9, stored=4)
    assert world.on_its_way


def test_a_copy_that_was_dropped_waits_for_the_sale_that_it_repeats(world: World) -> None:
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.raw(Entity.SALES, 5)
    world.clean(Entity.SALES, 4)
    world.at_position(Entity.SALES, passed=6, stored=3)
    assert world.on_its_way
    world.at_position(Entity.SALES, passed=6, stored=4)
    assert world.why() == "it has no fact"


@pytest.mark.parametrize("cleaned", [False, True])
def test_a_pipeline_that_has_just_started_has_missed_nothing(world: World, cleaned: bool) -> None:
    """No offset of the cleaner is committed yet, no position stored."""
    world.planted(Entity.SALES, 5, "return", "kept")
    if cleaned:
        world.clean(Entity.SALES, 5, quantity=-1)
    world.at_position(Entity.SALES, passed=6 if cleaned else None)
    assert world.on_its_way


def test_a_pipeline_that_keeps_no_positions_is_taken_as_drained(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    assert world.why() == "it is not in the clean topic"


def test_the_report_names_what_was_missed(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    world.planted(Entity.SALES, 6, "corrupt_bytes", "rejected", number=8)
    world.dead(Entity.SALES, 6)
    out = io.StringIO()
    result = world.judged()
    show(result, Console(file=out, width=200))
    assert out.getvalue().splitlines() == [
        "✓ corrupt_bytes  planted         1  handled         1  missed       0",
        "✗ return         planted         1  handled         0  missed       1",
        "    sales.raw/0@5 (id 7): it is not in the clean topic",
        "1 of 2 faults missed",
    ]
    assert json.loads(json.dumps(result.as_dict()))["ok"] is False
