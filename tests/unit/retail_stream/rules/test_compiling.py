"""What a condition may be, and the sentence that names what is wrong and where."""

import polars as pl
import pytest

from retail_stream.entities import Entity
from retail_stream.rules.compiling import compiled
from retail_stream.rules.rule_set import fields_of
from retail_stream.rules.syntax import ConditionError

SALES = fields_of(Entity.SALES)


@pytest.mark.parametrize(
    ("must", "position", "what"),
    [
        ("", 1, "not allowed"),
        ("quantity >", 10, "it ends too early"),
        ("quantity > 0\n  AND unit_price >", 31, "it ends too early"),
        ("quantity > 0 FROM sales", 14, 'syntax error at or near "FROM"'),
        ("quantity > 0; DROP TABLE x", 13, 'syntax error at or near ";"'),
        ("quantity > 0) , (quantity < 2", 1, "it is not one expression"),
        ("quantity > 0) FROM range(3) WHERE (true", 1, "it is not one expression"),
        ("quantity > 0); SELECT (1", 1, "it is not one expression"),
        ("quantity", 1, "a rule needs a condition, and this is a whole number"),
        ("quantty > 0", 1, "'quantty' is not a field; did you mean quantity?"),
        ("unit_price > 0 AND nope > 1", 20, "'nope' is not a field; allowed are transaction_id, "),
        ("payment_method = 'é' AND nope > 1", 26, "'nope' is not a field"),
        ("sales.quantity > 0", 1, "'sales.quantity' is not a field"),
        ("payment_method > 1", 1, "a whole number and text cannot be compared"),
        ("event_time > 1", 1, "a time and a whole number cannot be compared"),
        ("event_time > '2026-01-01'", 1, "a time and text cannot be compared"),
        ("payment_method = NULL", 18, "NULL is only allowed in IS NULL and IS NOT NULL"),
        ("payment_method LIKE 'a%' AND quantity", 30, "this is a whole number, where a condition is needed"),
        ("NOT quantity", 5, "this is a whole number, where a condition is needed"),
        ("1 = 1", 1, "this names no field"),
        ("quantity > 1 + 1", 12, "this names no field; write the result instead"),
        ("quantity / 2 > 1", 1, "/ is not allowed; allowed are ="),
        ("quantity % 2 = 0", 1, "% is not allowed"),
        ("upper(payment_method) = 'A'", 1, "UPPER is not allowed"),
        ("payment_method ILIKE 'a'", 1, "ILIKE is not allowed"),
        ("payment_method LIKE 'a!%' ESCAPE '!'", 1, "ESCAPE is not allowed"),
        ("quantity IN (SELECT 1)", 13, "subquery is not allowed"),
        ("(SELECT true)", 1, "subquery is not allowed"),
        ("count(*) > 1", 1, "is not allowed"),
        ("row_number() OVER () > 1", 1, "window is not allowed"),
        ("CASE WHEN quantity > 0 THEN true END", 1, "case is not allowed"),
        ("random() > 0.5", 1, "RANDOM is not allowed"),
        ("quantity > $1", 12, "parameter is not allowed"),
        ("quantity > 0.5", 1, "a whole number meets a decimal one; write CAST(… AS DOUBLE) around the field"),
        ("unit_price > quantity * 0.1", 14, "a whole number meets a decimal one"),
        ("transaction_id + 1 > 0", 1, "this may leave 64 bits; write CAST(… AS DOUBLE) around a field"),
        ("quantity * quantity * quantity > 0", 1, "this may leave 64 bits"),
        ("ABS(transaction_id) > 0", 1, "this may leave 64 bits"),
        ("quantity > 99999999999999999999", 12, "is not a decimal number of 64 bits"),
        ("quantity > 0x10", 13, 'syntax error at or near "x10"'),
        ("unit_price > 0.1234567890123456", 14, "has more than 15 digits"),
        ("event_time + event_time > record_time", 1, "a time + a time is not allowed"),
        (
            "event_time > record_time + INTERVAL '1 month'",
            28,
            "INTERVAL '1 month' is not valid; write INTERVAL '5 minutes'",
        ),
        ("event_time > record_time + INTERVAL 1 DAY", 28, "INTERVAL without quotes is not allowed"),
        ("event_time > TIMESTAMP '2026-02-30 00:00:00'", 14, "TIMESTAMP '2026-02-30 00:00:00' is not valid"),
        ("event_time > TIMESTAMP '2026-02-03 00:00:00+01'", 14, "is not valid; write TIMESTAMP '2026-11-30 12:00:00'"),
        ("event_time > DATE 'today'", 14, "DATE 'today' is not valid; write DATE '2026-11-30'"),
        ("regexp_matches(payment_method, '(')", 32, "in the pattern '(' is not closed"),
        ("regexp_matches(payment_method, '(?i)a')", 32, "'(?' is allowed as '(?:' only"),
        ("regexp_matches(payment_method, 'a', 'i')", 1, "REGEXP MATCHES takes a text field and a pattern"),
        ("regexp_matches(payment_method, payment_method)", 1, "takes a text field and a pattern"),
        ("regexp_matches(payment_method, '[[:alpha:]]')", 32, "'[' inside [ ] is written '\\['"),
        ("regexp_matches(payment_method, '\\bcard')", 32, "'\\b' is not allowed"),
        ("regexp_matches(payment_method, 'a{1,1000}')", 32, "may repeat at most 100 times"),
        ("regexp_matches(payment_method, '*')", 32, "has nothing to repeat"),
        ("quantity > 0 AND \x00true", 18, "a control character is not allowed"),
    ],
)
def test_a_condition_that_is_not_valid_is_refused_at_its_place(must: str, position: int, what: str) -> None:
    with pytest.raises(ConditionError) as refused:
        compiled(must, SALES)
    assert what in str(refused.value)
    assert refused.value.position == position, refused.value


@pytest.mark.parametrize(
    ("must", "held"),
    [
        ("quantity > 1", [True, False, None]),
        ("NOT quantity > 1", [False, True, None]),
        ("quantity > 1 OR payment_method = 'card'", [True, True, None]),
        ("quantity > 1 AND payment_method = 'cash'", [False, False, None]),
        ("quantity IS NULL", [False, False, True]),
        ("payment_method IN ('card', 'cash')", [True, True, None]),
        ("payment_method NOT IN ('cash')", [True, True, None]),
        ("quantity IN (2, transaction_id)", [True, True, None]),
        ("unit_price > 1000", [True, False, False]),
        ("unit_price = 0", [False, True, False]),
        ("unit_price = unit_price", [True, True, True]),
        ("LENGTH(payment_method) = 4 -- a comment", [True, True, None]),
        ("payment_method LIKE 'c_r%'", [True, True, None]),
        ("event_time BETWEEN DATE '1970-01-01' AND TIMESTAMP '1970-01-01 00:00:01'", [True, False, None]),
        ("event_time <= record_time + INTERVAL '1 second'", [True, True, None]),
        ("COALESCE(quantity, 7) = 7", [False, False, True]),
        ("ABS(quantity - 3) * 2 = CAST(2 AS DOUBLE)", [True, False, None]),
    ],
)
def test_a_condition_is_of_three_values(must: str, held: list[bool | None]) -> None:
    table = pl.DataFrame(
        {
            "quantity": pl.Series([2, 1, None], dtype=pl.Int32),
            "transaction_id": pl.Series([1, 1, None], dtype=pl.Int64),
            "unit_price": [float("nan"), -0.0, 5.0],
            "payment_method": ["card", "card", None],
            "event_time": pl.Series([0, 2_000_000, None], dtype=pl.Int64),
            "record_time": pl.Series([0, 1_000_000, 0], dtype=pl.Int64),
        }
    )
    assert table.select(compiled(must, SALES).alias("held"))["held"].to_list() == held
