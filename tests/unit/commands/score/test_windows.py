"""Sales in their windows, or on `sales.late`."""

from collections.abc import Sequence

import pytest

from commands.score.warehouse import window_sizes
from retail_stream.entities import Entity
from tests.unit.commands.score.world import MINUTE, World


def test_whether_a_sale_ended_too_late_the_late_topic_says(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    world.window(1)
    assert (world.handled, world.score().too_late) == (True, 0)
    world.window(0)
    world.late(5)
    assert (world.handled, world.score().too_late) == (True, 1)


def test_a_late_sale_is_in_its_window_or_on_the_late_topic(world: World) -> None:
    world.planted(Entity.SALES, 5, "too_late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    assert world.why() == "its window counts no sale, and it is not on sales.late"
    world.clean(Entity.SALES, 6, transaction_id=8)
    world.window(1)
    assert world.why() == "its window lacks sales that are not on sales.late"
    world.window(2)
    assert world.handled
    world.late(5)
    assert world.why() == "it is on sales.late, and its window counts more sales than were in time for it"
    world.window(1)
    assert world.handled


def test_the_late_topic_excuses_only_the_windows_that_it_names(world: World) -> None:
    #   0m      1m      2m
    #   |-------|---x---|        1m    x is on sales.late as too late for this one
    #   |-----------x---|        2m/1m
    #           |---x-----------|      and counts in these two
    window_sizes(world.engine, "1m,2m/1m")
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5, event_time=90_000_000)
    world.fact(event_time=90_000_000)
    world.late(5, "1m@1970-01-01T00:01:00.000000Z")
    world.window(1, start=0, size=2 * MINUTE)
    assert world.why() == "its window lacks sales that are not on sales.late"
    world.window(1, start=MINUTE, size=2 * MINUTE)
    assert world.handled
    world.window(1, start=MINUTE)
    assert world.why() == "it is on sales.late, and its window counts more sales than were in time for it"


def test_a_late_record_that_does_not_say_what_it_missed_may_have_missed_any_window(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    world.late(5, None)
    assert world.handled
    world.window(1)
    assert world.handled
    world.window(2)
    assert world.why() == "it is on sales.late, and its window counts more sales than were in time for it"


def test_a_late_record_that_does_not_say_where_it_was_may_have_missed_any_window(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    for offset in (5, 6, 7):
        world.clean(Entity.SALES, offset, transaction_id=offset + 2)
    world.fact()
    for _ in range(2):
        world.late(None)
    world.window(1)
    assert world.handled
    world.engine.execute("DELETE FROM window_counts")
    assert world.why() == "its window counts no sale, and it is not on sales.late"


def test_what_another_warehouse_found_late_is_no_excuse(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    world.late(5, owner="old")
    world.engine.execute("INSERT INTO warehouse_id VALUES ('new')")
    assert world.why() == "its window counts no sale, and it is not on sales.late"
    world.late(5, owner="new")
    assert world.handled


@pytest.mark.parametrize("cleaned", [True, False], ids=["kept in the clean topic", "dropped before it"])
def test_a_duplicate_counts_once_in_its_window_without_facts_too(world: World, cleaned: bool) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.raw(Entity.SALES, 5)
    world.clean(Entity.SALES, 4)
    if cleaned:
        world.clean(Entity.SALES, 5)
    world.window(2)
    assert world.why() == "its window counts more sales than were in time for it"
    world.window(1)
    assert world.handled


def test_a_copy_of_a_sale_whose_windows_are_final_is_late_or_nowhere(world: World) -> None:
    world.planted(Entity.SALES, 9, "duplicate", "counted_once")
    world.clean(Entity.SALES, 5)
    world.clean(Entity.SALES, 9)
    world.fact()
    world.window(1)
    assert world.handled
    world.late(9)  # it is held no longer
    assert world.handled
    world.window(0)
    assert world.why() == "its window lacks sales that are not on sales.late"


def test_a_sale_is_not_blamed_for_the_copy_of_another_in_its_window(world: World) -> None:
    # Its own windows of 1m and 2m are right. Another sale is in one more of them, and there it counts twice.
    #   0m      1m      2m
    #   |---x-------y---|            x is planted, y was published again
    #   |---x---|
    window_sizes(world.engine, "1m,2m/1m")
    world.planted(Entity.SALES, 5, "return", "kept")
    world.clean(Entity.SALES, 5, quantity=-1)
    world.fact(quantity=-1)
    world.clean(Entity.SALES, 6, transaction_id=8, event_time=90_000_000, replay_of=b"sales.raw/0/1")
    world.clean(Entity.SALES, 7, transaction_id=8, event_time=90_000_000, replay_of=b"sales.raw/0/1")
    world.window(1, returned=1)
    world.window(1, start=-MINUTE, size=2 * MINUTE, returned=1)
    world.window(2, size=2 * MINUTE, returned=1)
    assert world.handled
    world.window(3, size=2 * MINUTE, returned=1)
    assert world.why() == "its window counts more sales than were in time for it"


def test_one_of_several_windows_may_be_empty_while_the_others_count_the_sale(world: World) -> None:
    window_sizes(world.engine, "2m/1m")
    world.planted(Entity.SALES, 5, "burst", "kept")
    world.clean(Entity.SALES, 5)
    world.fact()
    world.window(1, size=2 * MINUTE)
    assert world.why() == "its window counts no sale, and it is not on sales.late"
    world.window(1, start=-MINUTE, size=2 * MINUTE)
    assert world.handled


def test_windows_are_compared_up_to_where_the_warehouse_is(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.clean(Entity.SALES, 6, transaction_id=8)
    world.fact()
    world.at_position(Entity.SALES, passed=9, stored=5)
    world.window(1)
    assert world.handled
    world.at_position(Entity.SALES, passed=9, stored=6)
    assert world.why() == "its window lacks sales that are not on sales.late"


def test_a_replayed_sale_counts_once(world: World) -> None:
    world.planted(Entity.SALES, 6, "burst", "kept")
    world.clean(Entity.SALES, 6, replay_of=b"sales.raw/0/1")
    world.clean(Entity.SALES, 8, replay_of=b"sales.raw/0/1")
    world.fact()
    world.window(1)
    assert world.handled


@pytest.mark.parametrize(
    ("starts", "size", "slide"),
    [((0, 60), 60, 60), ((0, 180), 60, 60), ((0, 60, 180), 300, 60), ((0, 120), 300, 60), ((30, 90), 60, 30)],
)
def test_the_windows_of_a_pipeline_that_does_not_tell_are_told_from_what_it_has(
    world: World, starts: Sequence[int], size: int, slide: int
) -> None:
    for start in starts:
        world.window(1, start=start, size=size)
    window_sizes(world.engine, None)
    assert world.engine.execute("FROM window_sizes").fetchall() == [(size, slide)]


def test_a_pipeline_without_any_window_lacks_those_of_a_minute(world: World) -> None:
    window_sizes(world.engine, None)
    assert world.engine.execute("FROM window_sizes").fetchall() == [(MINUTE, MINUTE)]


def test_a_rejected_sale_is_in_no_window(world: World) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "negative_discount", "rejected")
    world.raw(Entity.SALES, 5, discount_applied=-1.0)
    world.dead(Entity.SALES, 5)
    world.window(1)
    assert world.why() == "it is a dead letter, and its window counts more sales than were in time for it"
    world.clean(Entity.SALES, 4, transaction_id=6)
    assert world.handled


@pytest.mark.parametrize(
    ("before", "rise", "why"),
    [
        # The window ends at 60 s. A watermark of 90 s is 100 s in the record before, or a rise.
        (99, None, "it is on sales.late, and was in time"),
        (100, None, ""),
        (0, 89, "it is on sales.late, and was in time"),
        (0, 90, ""),
    ],
)
def test_a_sale_on_the_late_topic_was_too_late(world: World, before: int, rise: int | None, why: str) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 4, transaction_id=6, event_time=before * 1_000_000)
    world.clean(Entity.SALES, 5)
    world.fact()
    world.late(5)
    world.window(1, start=before // 60 * MINUTE)
    world.engine.execute("UPDATE clean_sales SET ts = 1000000000")
    assert world.handled
    world.engine.execute("UPDATE settings SET delay = 10000000, lateness = 30000000")
    if rise is not None:
        world.engine.execute(
            "INSERT INTO rises (partition, next_offset, watermark) VALUES (0, 1, ?)", [rise * 1_000_000]
        )
    assert world.handled if not why else world.why() == why


def test_windows_that_are_older_than_what_is_kept_are_not_missed(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.raw(Entity.SALES, 5)
    world.clean(Entity.SALES, 5)
    world.fact()
    assert world.why() == "its window counts no sale, and it is not on sales.late"
    world.engine.execute("INSERT INTO kept_since VALUES (0)")
    assert world.why() == "its window counts no sale, and it is not on sales.late"
    world.engine.execute("INSERT INTO kept_since VALUES (1)")
    assert world.handled
