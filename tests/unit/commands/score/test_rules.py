"""What becomes of planted records where rules come and go."""

import pytest

from commands.audit.rule_sets import RuleSets
from retail_stream.entities import Entity
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import Rule, RuleSet
from tests.unit.commands.score.world import World

CASH = Rule("cash", "payment_method = 'cash'", Action.REJECT, "Only cash.")
STRICT, LOOSE = RuleSet(Entity.SALES, (CASH,)), RuleSet(Entity.SALES, ())


@pytest.fixture
def ruled(world: World) -> World:
    """Sales of two versions of rules."""
    world.books[Entity.SALES] = RuleSets(STRICT, {r.version: r for r in (STRICT, LOOSE)})
    return world


def test_a_return_that_a_rule_of_the_user_rejects_is_a_dead_letter(ruled: World) -> None:
    ruled.planted(Entity.SALES, 5, "return", "kept")
    ruled.raw(Entity.SALES, 5, quantity=-2, payment_method="gold")
    ruled.dead(Entity.SALES, 5, STRICT.version)
    assert ruled.handled
    ruled.fact()
    assert ruled.why() == "it is a dead letter, and has a fact"


@pytest.mark.parametrize(
    ("payment", "version"), [("cash", STRICT.version), ("gold", LOOSE.version), ("gold", "unknown"), ("gold", "")]
)
def test_a_return_that_its_rules_do_not_reject_is_kept(ruled: World, payment: str, version: str) -> None:
    ruled.planted(Entity.SALES, 5, "return", "kept")
    ruled.raw(Entity.SALES, 5, quantity=-2, payment_method=payment)
    ruled.dead(Entity.SALES, 5, version)
    assert ruled.why() == "it is a dead letter"


def test_a_bad_sale_is_kept_by_rules_that_no_longer_reject_it(ruled: World) -> None:
    ruled.planted(Entity.SALES, 5, "negative_discount", "rejected")
    ruled.raw(Entity.SALES, 5, discount_applied=-1.0, payment_method="gold")
    ruled.clean(Entity.SALES, 5, version=LOOSE.version, discount_applied=-1.0, payment_method="gold")
    assert ruled.why() == "it has no fact"
    ruled.fact(discount_applied=-1.0, payment_method="gold")
    ruled.window(1, discounts=-100)
    assert ruled.handled


def test_a_bad_sale_that_its_rules_reject_is_not_kept(ruled: World) -> None:
    ruled.planted(Entity.SALES, 5, "negative_discount", "rejected")
    ruled.raw(Entity.SALES, 5, payment_method="gold")
    ruled.clean(Entity.SALES, 5, version=STRICT.version, payment_method="gold")
    assert ruled.why() == "it is in the clean topic"
