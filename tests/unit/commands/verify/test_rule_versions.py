"""Each record is judged by the rules that it names."""

from commands.audit.rule_sets import RuleSets
from commands.verify.rule_versions import version_check
from retail_stream.avro.schema import Holds
from retail_stream.entities import Entity
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import Rule, RuleSet
from tests.unit.commands.verify.test_cleaning import (
    BOOKS,
    CLEAN,
    CLEAN_ID,
    DEAD,
    GOOD,
    NO_EMAIL,
    RAW_ID,
    TODAY,
    Record,
    big_endian,
    check,
    cleaned,
    encode,
    letter,
)


def book(*rules: Rule, today: RuleSet | None = None, **other: RuleSet) -> RuleSets:
    """Rules of customers: ``rules`` were published, beside ``other`` versions and today's."""
    published = [BOOKS[Entity.CUSTOMERS].today, *other.values()]
    if rules:
        published.append(RuleSet(Entity.CUSTOMERS, rules))
    return RuleSets(today or published[0], {r.version: r for r in published})


ADULT = Rule("adult", "age >= 18", Action.REJECT, "Only adults have an account.")
OLDER = RuleSet(Entity.CUSTOMERS, (ADULT,))
NONE = Rule("email_present", "email IS NOT NULL", Action.DEFAULT, "No email is none.", "email", "none")


def test_each_record_is_judged_by_the_rules_that_it_names(engine):
    raw = [Record(n, GOOD) for n in range(4)]
    customer = encode(Entity.CUSTOMERS, "clean", CLEAN_ID)
    both = book(ADULT)
    clean = [cleaned(0, 0, customer), cleaned(1, 1, customer, version=OLDER.version)]
    dead = [letter(0, 2, GOOD, "adult", OLDER.version), letter(1, 3, GOOD, "adult")]
    checks = check(engine, clean, dead, raw, both)
    assert [c.examples for c in checks] == [
        (
            "customers.raw/0@1: breaks adult, and is in customers.clean",
            "customers.raw/0@3: good, and missing in customers.clean",
        ),
        (
            "customers.raw/0@1: breaks adult, and is missing in customers.dlq",
            "customers.raw/0@3: breaks no rule, and is in customers.dlq",
        ),
    ]


def test_a_record_that_two_versions_judged_is_right_in_both_topics(engine):
    customer = encode(Entity.CUSTOMERS, "clean", CLEAN_ID)
    dead = [letter(0, 0, GOOD, "adult", OLDER.version)]
    assert all(c.ok for c in check(engine, [cleaned(0, 0, customer)], dead, [Record(0, GOOD)], book(ADULT)))


def test_a_default_is_that_of_the_rules_that_a_record_names(engine):
    raw = [Record(n, NO_EMAIL) for n in range(2)]
    filled = [encode(Entity.CUSTOMERS, "clean", CLEAN_ID, email=e) for e in ("Unknown", "none")]
    rules = RuleSet(Entity.CUSTOMERS, (NONE,))
    clean = [cleaned(0, 0, filled[0]), cleaned(1, 1, filled[1], version=rules.version)]
    assert all(c.ok for c in check(engine, clean, [], raw, book(NONE)))
    assert engine.execute('SELECT email FROM raw_customers ORDER BY "offset"').fetchall() == [("Unknown",), ("none",)]
    swapped = [cleaned(0, 0, filled[1]), cleaned(1, 1, filled[0], version=rules.version)]
    wrong, _ = check(engine, swapped, [], raw, book(NONE))
    assert wrong.differ == 2


def test_records_of_an_older_version_stay_green_when_a_rule_is_added(engine):
    customer = encode(Entity.CUSTOMERS, "clean", CLEAN_ID)
    stricter = RuleSet(Entity.CUSTOMERS, (*BOOKS[Entity.CUSTOMERS].today.rules, ADULT))
    now = book(today=stricter, stricter=stricter)
    assert all(c.ok for c in check(engine, [cleaned(0, 0, customer)], [], [Record(0, GOOD)], now))
    due, _ = check(engine, [], [], [Record(0, GOOD)], now)
    assert due.ok
    assert not check(engine, [], [], [Record(0, GOOD)], now)[1].ok


NAMELESS = {"email": Holds.TEXT, "join_date": Holds.TIME}


def test_limits_hold_for_the_fields_that_the_named_rules_knew(engine):
    torn = encode(Entity.CUSTOMERS, "raw", RAW_ID, name="a\0b")
    older = RuleSet(Entity.CUSTOMERS, (), limits=NAMELESS)
    customer = encode(Entity.CUSTOMERS, "clean", CLEAN_ID, name="a\0b")
    raw = [Record(n, torn) for n in range(3)]
    both = book(older=older)
    clean = [cleaned(0, 0, customer, version=older.version)]
    dead = [letter(0, 1, torn, "text_without_nul"), letter(1, 2, torn, "text_without_nul")]
    assert [c.examples for c in check(engine, clean, dead, raw, both)] == [(), ()]
    swapped = [letter(0, 0, torn, "text_without_nul", older.version), *dead[1:]]
    wrong = check(engine, [cleaned(0, 1, customer)], swapped, raw, both)
    assert [tuple(sorted(c.examples, reverse=True)) for c in wrong] == [
        (
            "customers.raw/0@1: breaks text_without_nul, and is in customers.clean",
            "customers.raw/0@0: good, and missing in customers.clean",
        ),
        (
            "customers.raw/0@1: breaks text_without_nul, and is missing in customers.dlq",
            "customers.raw/0@0: breaks no rule, and is in customers.dlq",
        ),
    ]


def test_verdicts_on_a_field_that_is_gone_are_only_accounted_for(engine):
    gone = RuleSet(Entity.CUSTOMERS, (), limits={"nickname": Holds.TEXT})
    dead = [*DEAD, letter(1, 0, GOOD, "text_without_nul", gone.version)]
    clean, letters = check(engine, CLEAN[1:], dead, book=book(gone=gone))
    assert (clean.ok, letters.ok) == (True, True), (clean, letters)
    assert letters.note == "1 that cannot be judged anew"


def test_a_record_that_breaks_a_rule_which_stops_the_cleaner_is_nowhere(engine):
    fatal = RuleSet(Entity.CUSTOMERS, (Rule("adult", "age >= 18", Action.FAIL, "Stop."),))
    customer = encode(Entity.CUSTOMERS, "clean", CLEAN_ID)
    clean, _ = check(engine, [cleaned(0, 0, customer, version=fatal.version)], [], [Record(0, GOOD)], book(fatal=fatal))
    assert clean.examples == ("customers.raw/0@0: breaks adult, and is in customers.clean",)


def test_verdicts_of_other_code_are_only_accounted_for(engine):
    other = RuleSet(Entity.CUSTOMERS, (), built_in=0)
    dead = [*DEAD, letter(1, 0, GOOD, "no_such_rule", other.version)]
    clean, letters = check(engine, CLEAN[1:], dead, book=book(other=other))
    assert (clean.ok, letters.ok) == (True, True), (clean, letters)
    assert letters.note == "1 that cannot be judged anew"


def test_every_version_that_a_record_names_must_be_published(engine):
    check(engine, CLEAN, DEAD)
    books = {Entity.CUSTOMERS: BOOKS[Entity.CUSTOMERS]}
    versions = version_check(engine, books)
    assert (versions.ok, versions.note) == (True, f"customers {TODAY} judged 4")
    unpublished = [CLEAN[0], cleaned(1, 1, version="abc"), Record(2, None, heads=[("source.offset", big_endian(3))])]
    check(engine, unpublished, DEAD)
    versions = version_check(engine, books)
    assert (versions.expected, versions.actual, versions.differ) == (3, 1, 2)
    assert versions.examples == (
        "customers.clean/0@1: names the rules.version abc, and cleaner.rules holds no such rules",
        "customers.clean/0@2: has no header rules.version",
    )
