"""Rule files: what stands in one, what is refused with one sentence, and what a version is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retail_stream.avro.schema import Holds
from retail_stream.entities import Entity
from retail_stream.rules import built_in
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import RuleError, RuleSet, load, load_all, parse

GOOD = """
[paid]
must = "payment_method IN ('card', 'cash')"
action = "reject"
why = "We take cards and cash."
"""

CHANGES: list[dict[str, Any]] = [
    {"name": "x"},
    {"must": "x"},
    {"action": Action.WARN},
    {"field": "x"},
    {"default": "x"},
]


def write(folder: Path, text: str) -> Path:
    (folder / "schemas" / "rules").mkdir(parents=True, exist_ok=True)
    (folder / "schemas" / "rules" / "sales.toml").write_text(text)
    return folder / "schemas" / "rules"


def test_our_own_rules_are_valid_and_their_sentences_end_in_a_full_stop() -> None:
    rules = [rule for rules in load_all().values() for rule in rules.rules]
    assert len(rules) > 10
    assert [r.name for r in rules if not r.why.endswith(".")] == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[paid", "schemas/rules/sales.toml is not valid TOML: "),
        (GOOD.replace("payment_method", "payment"), "rules/sales.toml: rule paid: character 1 of its condition: "
         "'payment' is not a field; did you mean payment_method?."),
        (GOOD.replace("[paid]", '["Paid!"]'), "rule Paid!: the name is not valid; allowed are a-z"),
        (GOOD.replace("[paid]", "[key_matches]"), "rule key_matches: the name belongs to a rule that is code"),
        (GOOD.replace('"reject"', '"drop"'), "action 'drop' is not known; allowed are default, warn, reject, fail"),
        (GOOD.replace("why", "because"), "'because' is not known; allowed are must, action, why, field, default"),
        (GOOD.replace('why = "We take cards and cash."', ""), "rule paid: why is missing"),
        (GOOD.replace('"reject"', "1"), "rule paid: action is not a text"),
        (GOOD.replace('"reject"', '"default"'), "rule paid: the action default needs `field`, a text field"),
        (GOOD + 'field = "payment_method"', "`field` and `default` go with the action default, and this is reject"),
        ("paid = 1", "rule paid: it is not a table"),
        (GOOD + GOOD, "is not valid TOML: Cannot declare ('paid',) twice"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_valid_is_one_sentence_that_names_file_rule_and_place(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(RuleError) as refused:
        load(Entity.SALES, write(tmp_path, text))
    assert sentence in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"rules/stores\.toml cannot be read: No such file"):
        load(Entity.STORES, write(tmp_path, GOOD))


def test_a_field_has_one_default(tmp_path: Path) -> None:
    rule = GOOD.replace('"reject"', '"default"') + 'field = "payment_method"\ndefault = "cash"\n'
    with pytest.raises(RuleError, match="two rules have a default for payment_method; one is allowed"):
        load(Entity.SALES, write(tmp_path, rule + rule.replace("paid", "known")))


def test_the_same_rules_have_the_same_version_and_any_change_another(tmp_path: Path) -> None:
    folder = write(tmp_path, GOOD)
    rules = load(Entity.SALES, folder)
    assert load(Entity.SALES, folder).version == rules.version
    assert parse(rules.as_json()) == rules
    write(tmp_path, "# a comment\n" + GOOD)
    assert load(Entity.SALES, folder).version == rules.version
    (rule,) = rules.rules
    others = [
        replace(rules, built_in=built_in.VERSION + 1),
        replace(rules, entity=Entity.STORES),
        replace(rules, limits={**(rules.limits or {}), "more": Holds.TEXT}),
        replace(rules, limits=None),
        *(replace(rules, rules=(replace(rule, **changed),)) for changed in CHANGES),
    ]
    assert rules.version not in {other.version for other in others}


def test_a_rule_set_that_was_published_without_limits_keeps_its_version(tmp_path: Path) -> None:
    older = replace(load(Entity.SALES, write(tmp_path, GOOD)), limits=None)
    assert b"limits" not in older.as_json()
    assert parse(older.as_json()) == older
    assert [e.name for e in older.expectations][2:4] == ["amounts_in_range", "text_without_nul"]


def test_a_published_rule_set_that_someone_else_wrote_is_checked() -> None:
    (rule,) = load(Entity.STORES).rules[:1]
    hostile = RuleSet(Entity.STORES, (replace(rule, must="(SELECT 1) = 1"),)).as_json()
    for value in (hostile, b"[]", b"{}", b'{"entity": "sales", "rules": [1]}', b"\xff", b'{"rules": []}'):
        with pytest.raises((ValueError, AttributeError)):
            parse(value)
