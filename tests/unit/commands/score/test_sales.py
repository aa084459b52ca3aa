"""Sales: rejected, kept, counted once."""

from typing import Any

import pytest

from commands.score.warehouse import FACT_AMOUNTS
from retail_stream.entities import Entity
from tests.unit.commands.score.world import MINUTE, World


def test_what_must_be_rejected_is_a_dead_letter_and_nothing_else(world: World) -> None:
    world.planted(Entity.SALES, 5, "negative_discount", "rejected")
    world.dead(Entity.SALES, 4)
    assert world.why() == "it is not a dead letter"
    world.dead(Entity.SALES, 5)
    assert world.handled
    world.clean(Entity.SALES, 5)
    assert world.why() == "it is in the clean topic"


def test_a_return_is_kept_and_has_one_fact_that_is_a_return(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    assert world.why() == "it is not in the clean topic"
    world.clean(Entity.SALES, 5, quantity=-2)
    world.window(1, returned=2)
    assert world.why() == "it has no fact"
    world.fact(quantity=2)
    assert world.why() == "its fact is not a return"
    world.engine.execute("UPDATE facts SET quantity = -2")
    assert world.handled
    world.clean(Entity.SALES, 5, quantity=-2)  # at least once
    assert world.handled
    world.dead(Entity.SALES, 5)
    assert world.why() == "it is a dead letter"


def test_a_duplicate_has_one_fact_wherever_it_was_dropped(world: World) -> None:
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.fact()
    world.window(1)
    assert world.why() == "it is not in the clean topic"
    world.clean(Entity.SALES, 4)
    assert world.handled
    world.clean(Entity.SALES, 5)
    assert world.handled
    world.engine.execute("UPDATE facts SET facts = 2")
    assert world.why() == "it has more than one fact"


def test_another_sale_of_the_same_transaction_id_has_a_fact_of_its_own(world: World) -> None:
    world.planted(Entity.SALES, 5, "duplicate", "counted_once")
    world.clean(Entity.SALES, 4)
    world.clean(Entity.SALES, 5)
    world.clean(Entity.SALES, 6, event_time=40_000_000)
    world.window(2)
    world.fact(count=2)
    assert world.handled


def test_a_return_counts_as_a_return_without_facts_too(world: World) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "return", "kept")
    world.clean(Entity.SALES, 5, quantity=-2)
    assert world.why() == "its window counts no sale, and it is not on sales.late"
    world.window(1)
    assert world.why() == "its window does not count it as a return"
    world.window(1, returned=2)
    assert world.handled


def test_a_clean_sale_is_the_one_that_was_published(world: World) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.raw(Entity.SALES, 5)
    world.clean(Entity.SALES, 5, event_time=90_000_000)
    world.fact()
    world.window(1, start=MINUTE)
    assert world.why() == "its clean record has another event_time"


def test_a_clean_sale_can_be_read(world: World) -> None:
    world.without_facts()
    world.planted(Entity.SALES, 5, "return", "kept")
    world.garbage(Entity.SALES, 5)
    assert world.why() == "its clean record cannot be read"


def test_a_rejected_sale_has_no_fact(world: World) -> None:
    world.planted(Entity.SALES, 5, "negative_discount", "rejected")
    world.dead(Entity.SALES, 5)
    world.fact()
    assert world.why() == "it is a dead letter, and has a fact"
    world.clean(Entity.SALES, 9, replay_of=b"sales.raw/0/5")
    assert world.handled


@pytest.mark.parametrize(
    "wrong",
    [
        {"customer_id": 2}, {"product_id": 2}, {"quantity": -3}, {"unit_price": 5.01}, {"total_amount": 6.0},
        {"payment_method": "card"}, {"discount_applied": 0.5}, {"tax_amount": 0.5},
    ],
)  # fmt: skip
def test_clean_record_fact_and_window_of_a_return_have_its_amounts(world: World, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    world.planted(Entity.SALES, 5, "return", "kept")
    world.raw(Entity.SALES, 5, quantity=-2)
    world.clean(Entity.SALES, 5, quantity=-2)
    world.fact(quantity=-2)
    world.window(1, returned=2)
    assert world.handled
    world.engine.execute(
        f"UPDATE facts SET {name} = ?", [v * 100 if name in FACT_AMOUNTS else v for v in wrong.values()]
    )
    assert world.why() == f"its fact has another {name}"
    world.engine.execute(f"UPDATE clean_sales SET {name} = ?", [*wrong.values()])
    assert world.why() == f"its clean record has another {name}"


@pytest.mark.parametrize("measure", ["units_sold", "gross_sales", "returns_amount", "discounts", "taxes", "net_sales"])
def test_a_window_with_other_sums_is_wrong_for_each_of_its_sales(world: World, measure: str) -> None:
    world.planted(Entity.SALES, 5, "late_event", "counted_or_late")
    world.clean(Entity.SALES, 5)
    world.fact()
    world.window(1)
    assert world.handled
    world.engine.execute(f"UPDATE window_counts SET {measure} = {measure} + 1")
    assert world.why() == "its window has other sums"


def test_a_rejected_sale_that_a_window_counts_is_missed_whether_it_has_a_fact_or_not(world: World) -> None:
    world.planted(Entity.SALES, 5, "negative_discount", "rejected")
    world.raw(Entity.SALES, 5, discount_applied=-1.0)
    world.dead(Entity.SALES, 5)
    assert world.handled
    world.window(1)
    assert world.why() == "it is a dead letter, and its window counts more sales than were in time for it"


def test_a_sale_of_a_detached_month_needs_no_fact(world: World) -> None:
    world.planted(Entity.SALES, 5, "return", "kept")
    world.raw(Entity.SALES, 5, quantity=-1)
    world.clean(Entity.SALES, 5, quantity=-1)
    world.window(1, returned=1)
    assert world.why() == "it has no fact"
    world.engine.execute("INSERT INTO archived VALUES (30000001, 60000000), (0, 30000000)")
    assert world.why() == "it has no fact"
    world.engine.execute("INSERT INTO archived VALUES (30000000, 60000000)")
    assert world.handled
