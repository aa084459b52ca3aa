"""Versions of rules, and how two of them differ."""

from dataclasses import replace

import pytest

from commands.rules.history import differences, pair, versions
from retail_stream.avro.schema import Holds
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.rules.built_in import Action
from retail_stream.rules.published import Published
from retail_stream.rules.rule_set import Rule, RuleSet

ADULT = Rule("adult", "age >= 18", Action.REJECT, "Only adults.")
NAMED = Rule("named", "LENGTH(name) > 0", Action.WARN, "A name.")
OLD = RuleSet(Entity.CUSTOMERS, (ADULT, NAMED))
NEW = RuleSet(Entity.CUSTOMERS, (Rule("adult", "age >= 16", Action.REJECT, "Nearly adults."),))
MORE = {"nickname": Holds.TEXT}
STORES = RuleSet(Entity.STORES, ())
TODAY = {Entity.CUSTOMERS: NEW, Entity.STORES: STORES}
THERE = {OLD.key: Published(OLD, 1_700_000_000_000), STORES.key: Published(STORES, 1_700_000_000_000)}


def test_every_version_is_listed_and_what_no_cleaner_has_used_yet() -> None:
    assert list(versions(TODAY, THERE)) == [
        ("customers", OLD.version, "2", "2023-11-14 22:13:20Z", ""),
        ("customers", NEW.version, "1", "no cleaner has started with it", "today"),
        ("stores", STORES.version, "0", "2023-11-14 22:13:20Z", "today"),
    ]


def test_rules_are_added_dropped_changed_and_renamed() -> None:
    assert differences(OLD, NEW) == [
        "~ adult: age >= 18 (reject) → age >= 16 (reject)",
        "- named: LENGTH(name) > 0 (warn)",
    ]
    assert differences(NEW, OLD)[1:] == ["+ named: LENGTH(name) > 0 (warn)"]
    renamed = RuleSet(Entity.CUSTOMERS, (Rule("of_age", "age >= 18", Action.REJECT, "Other words."), NAMED))
    assert differences(OLD, renamed) == ["> adult is now of_age"]
    assert differences(OLD, OLD) == []
    assert differences(OLD, RuleSet(Entity.CUSTOMERS, OLD.rules, built_in=2)) == [
        "~ the rules that are code: version 1 → 2"
    ]
    knew, knows = (replace(OLD, limits=limits) for limits in ({"name": Holds.TEXT}, {"name": Holds.TEXT, **MORE}))
    assert differences(knew, knows) == ["+ the limits of text hold for nickname"]
    assert differences(knows, knew) == ["- the limits of text hold for nickname"]


def test_two_versions_of_one_entity_are_compared() -> None:
    assert pair(OLD.version, "today", TODAY, THERE) == (OLD, NEW)
    assert pair("today", OLD.version, TODAY, THERE) == (NEW, OLD)
    for old, new, words in (
        ("today", "today", "at least one version"),
        ("abc", "today", "'abc' is not a version"),
        (OLD.version, STORES.version, "is of customers and .* of stores"),
    ):
        with pytest.raises(SettingsError, match=words):
            pair(old, new, TODAY, THERE)
