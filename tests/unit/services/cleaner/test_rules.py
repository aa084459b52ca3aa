"""Every golden record is a test case; every rule that rejects has at least one."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pytest

from retail_stream.avro.decode import HEADER_BYTES, RecordSchema, frame, schema_id
from retail_stream.avro.derived import derived_schema
from retail_stream.entities import Entity
from retail_stream.kafka.record_batches.headers import headers_of
from retail_stream.rules import built_in
from retail_stream.rules.built_in import Action, Expectation
from services.cleaner.clean import Target, clean
from services.cleaner.expectations import rules
from services.cleaner.verdict import FailedExpectation, judge
from tests.harness.examples import CLEAN_ID, RAW_ID, Example, Raw, examples, schema

SHARED = (Entity.SALES, Entity.PRODUCTS)  # raw and clean have one schema, hence one id


def run(raw: Raw):
    entity = raw.entity
    writer = RecordSchema(schema(entity, "raw"))
    target = Target(RAW_ID if entity in SHARED else CLEAN_ID, entity in SHARED)
    targets = {RAW_ID: dict.fromkeys(writer.plan(writer.reader).branches.values(), target)}
    return clean(entity, raw.columns(), {RAW_ID: writer}, writer, targets)


def is_as_named(example: Example, broken: Sequence[str]) -> bool:
    """Whether a golden record breaks what it names and nothing else.

    A record that names only rules that are code may also break rules of the file: what cannot be stored is not one of a
    list of values either.
    """
    code = [name for name in broken if name in built_in.NAMES]
    return sorted(example.rules) in (sorted(broken), sorted(code))


@pytest.mark.parametrize("example", examples("invalid"), ids=str)
def test_an_invalid_record_is_rejected_by_exactly_the_rules_it_names(example: Example):
    cleaned = run(example.raw)
    assert is_as_named(example, cleaned.rejected[0].rules)
    assert cleaned.good.tolist() == []


@pytest.mark.parametrize("example", examples("valid"), ids=str)
def test_a_valid_record_passes_with_its_defaults_applied(example: Example):
    cleaned = run(example.raw)
    assert cleaned.rejected == {}
    if example.value is None:
        assert cleaned.columns.value(0) is None
    else:
        clean_writer = RecordSchema(schema(example.entity, "clean"))
        assert clean_writer.record(cleaned.columns.value(0)[HEADER_BYTES:]) == {**example.value, **example.defaults}


@pytest.mark.parametrize("example", [e for e in examples("valid") if e.entity in SHARED], ids=str)
def test_sales_and_products_are_forwarded_as_the_bytes_they_came_as(example: Example):
    assert run(example.raw).columns.value(0) == example.raw.values[0]


@pytest.mark.parametrize("entity", [Entity.CUSTOMERS, Entity.STORES])
def test_customers_and_stores_are_encoded_under_their_clean_schema(entity: Entity):
    example = next(e for e in examples("valid") if e.entity is entity and e.value is not None)
    assert schema_id(run(example.raw).columns.value(0)) == CLEAN_ID


def test_every_rejecting_rule_has_a_golden_record_that_only_it_could_reject():
    rejecting = {(e, r.name) for e in Entity for r in rules(e) if r.action is Action.REJECT}
    rejecting |= {(e, built_in.VALID_AVRO) for e in Entity} | {(Entity.SALES, built_in.VALUE_PRESENT)}
    shown = {(e.entity, e.rules[0]) for e in examples("invalid") if len(e.rules) == 1}
    assert rejecting - shown == set()


def test_a_record_breaks_a_condition_that_is_null():
    rule = Expectation("is_seven", "n = 7", pl.col("n") == 7)
    table = pl.DataFrame({"row": [0, 1], "n": [None, 7]})
    assert judge(table, [rule]).rejected == {0: ("is_seven",)}


@pytest.mark.parametrize("entity", list(Entity))
def test_a_field_that_may_be_null_breaks_no_rule_but_for_its_default(entity: Entity):
    example = next(e for e in examples("valid") if e.entity is entity and e.value is not None and not e.defaults)
    nullable = [f["name"] for f in schema(entity, "raw")["fields"] if isinstance(f["type"], list)]
    columns = RecordSchema(schema(entity, "raw")).columns
    assert example.value is not None
    record_time = example.raw.timestamps[0] * 1000
    row = {**example.value, **dict.fromkeys(nullable), "row": 0, "key": "7", "record_time": record_time}
    wide = {"row": pl.Int64(), "key": pl.String(), "record_time": pl.Int64()}
    verdict = judge(
        pl.DataFrame([row], schema={**columns, **wide}), [r for r in rules(entity) if r.name != "key_matches"]
    )
    assert verdict.rejected == {}
    assert {action for action, _ in verdict.counts} <= {Action.DEFAULT}


@pytest.mark.parametrize("action", list(Action))
def test_a_broken_rule_does_what_its_action_says(action: Action):
    rule = Expectation("is_seven", "n = 7", pl.col("n") == 7, action, "n", "7")
    table = pl.DataFrame({"row": [4, 5], "n": [7, 8]})
    if action is Action.FAIL:
        with pytest.raises(FailedExpectation, match=r"is_seven.* n = 7") as failed:
            judge(table, [rule])
        assert failed.value.row == 5
        return
    verdict = judge(table, [rule])
    assert verdict.counts == {(action, "is_seven"): 1}
    assert verdict.rejected == ({5: ("is_seven",)} if action is Action.REJECT else {})
    assert {k: v.tolist() for k, v in verdict.defaults.items()} == (
        {("n", "7"): [5]} if action is Action.DEFAULT else {}
    )


def test_a_delete_without_a_key_breaks_what_needs_one():
    table = pl.DataFrame(
        {"row": [0], "key": [None], "id": [None], "record_time": [0], "sequence_time": [0]},
        schema_overrides={"key": pl.String, "id": pl.Int32},
    ).with_columns(sequence_time_valid=False)
    assert judge(table, built_in.OF_DELETES).rejected == {0: ("key_matches", "sequence_time_valid")}


@pytest.mark.parametrize("entity", list(Entity))
def test_the_clean_schema_of_our_own_raw_schema_is_the_one_that_is_registered_already(entity: Entity):
    raw = RecordSchema(schema(entity, "raw"))
    (branch,) = raw.plan(raw.reader).branches.values()
    assert derived_schema(schema(entity, "clean"), branch) == schema(entity, "clean")


def test_one_bad_record_does_not_change_the_verdict_on_its_neighbours():
    good = next(e for e in examples("valid") if str(e) == "sales-sale").raw
    bad = next(e for e in examples("invalid") if str(e) == "sales-negative_discount").raw
    torn = (good.values[0] or b"")[:-1]
    raw = Raw(
        Entity.SALES,
        [good.values[0], torn, bad.values[0], None, good.values[0]],
        [b"7"] * 5,
        [good.timestamps[0]] * 5,
    )
    cleaned = run(raw)
    assert {row: r.rules for row, r in cleaned.rejected.items()} == {
        1: ("valid_avro",),
        2: ("discount_not_negative",),
        3: ("value_present",),
    }
    assert cleaned.good.tolist() == [0, 4]
    assert [cleaned.columns.value(i) for i in range(5)] == raw.values


def test_a_record_whose_headers_cannot_be_read_is_rejected_with_all_its_other_reasons():
    bad = next(e for e in examples("invalid") if str(e) == "sales-negative_discount").raw
    good = next(e for e in examples("valid") if str(e) == "sales-sale").raw
    values = [*good.values, *bad.values, *good.values]
    headers = {0: ((b"a", b"\xff"), (b"\xff", b"a")), 1: ((b"\xed\xa0\x80", None),), 2: (("ü".encode(), b"\xff"),)}
    cleaned = run(Raw(Entity.SALES, values, [*good.keys] * 3, [*good.timestamps] * 3, headers))
    assert {row: r.rules for row, r in cleaned.rejected.items()} == {
        0: ("headers_readable",),
        1: ("headers_readable", "discount_not_negative"),
    }
    assert [headers_of(cleaned.columns, row) for row in range(3)] == [(), (), headers[2]]


@pytest.mark.parametrize("timestamp", [-(2**63), -(10**16), -(10**15)])
@pytest.mark.parametrize("name", ["sales-sale", "customers-delete"])
def test_a_kafka_timestamp_that_no_calendar_has_makes_every_time_lie_after_it(name: str, timestamp: int):
    good = next(e for e in examples("valid") if str(e) == name).raw
    (rejected,) = run(replace(good, timestamps=[timestamp])).rejected.values()
    assert {"time_not_future", "time_in_range"} & set(rejected.rules)


def test_values_of_one_clean_schema_under_several_raw_ids_get_its_id():
    good = next(e for e in examples("valid") if str(e) == "sales-sale").raw
    writer = RecordSchema(schema(Entity.SALES, "raw"))
    other = frame(RAW_ID + 1, (good.values[0] or b"")[HEADER_BYTES:])
    raw = Raw(Entity.SALES, [good.values[0], other], [*good.keys] * 2, [*good.timestamps] * 2)
    branches = writer.plan(writer.reader).branches.values()
    targets = {i: dict.fromkeys(branches, Target(RAW_ID, forwards=True)) for i in (RAW_ID, RAW_ID + 1)}
    made = clean(Entity.SALES, raw.columns(), dict.fromkeys(targets, writer), writer, targets).columns
    assert [made.value(0), made.value(1)] == [good.values[0]] * 2
