"""What a column cannot hold stays in `extra`, whenever the column came; what it can hold moves into it."""

from typing import Any

import polars as pl
import pytest

from retail_stream.entities import Entity
from services.scd_merger.dimensions import Dimension, clean_schema, declare
from services.scd_merger.kept import with_known_fields, without_unfit

MOMENT = {"type": "long", "logicalType": "timestamp-micros"}


def stores(avro_type: Any) -> Dimension:
    more = {"name": "x", "type": ["null", avro_type], "default": None}
    schema = clean_schema(Entity.STORES)
    return declare(Entity.STORES, {**schema, "fields": [*schema["fields"], more]})


def change(dimension: Dimension, x: Any, extra: str | None) -> pl.DataFrame:
    row = (3, 42, False, "Soho", "", "", 5, "", "", x, extra)
    return pl.DataFrame([row], schema=dimension.change_schema, orient="row")


@pytest.mark.parametrize(
    ("avro_type", "written", "value"),
    [
        ("string", '"a"', "a"),
        ("string", '"~~a"', "~a"),
        ("string", '"~bytes:c3a9"', "é"),
        ("string", '{"string":"a"}', "a"),
        ("long", "7", 7),
        ("long", '"~long:9007199254740993"', 2**53 + 1),
        ("double", "1.5", 1.5),
        ("double", "2", 2.0),
        ("boolean", "true", True),
        (MOMENT, '"~timestamp-micros:7"', 7),
        (MOMENT, '"~timestamp-millis:7"', 7000),
        (MOMENT, '"~local-timestamp-nanos:7999"', 7),
    ],
)
def test_a_field_moves_into_its_column_as_the_value_it_was(avro_type: Any, written: str, value: Any) -> None:
    (row,) = with_known_fields(stores(avro_type), change(stores(avro_type), None, f'{{"x":{written}}}')).rows()
    assert row[-2:] == (value, None)


@pytest.mark.parametrize(
    ("avro_type", "written"),
    [
        ("string", '"~text:a\\\\000"'),
        ("string", '"~bytes:c3"'),
        ("string", "7"),
        ("string", '{"Home":{"a":1}}'),
        ("long", "1.5"),
        ("long", "true"),
        ("double", "1000000000"),
        ("double", '"~double:NaN"'),
        ("boolean", "1"),
        (MOMENT, "7"),
        (MOMENT, '"~timestamp-micros:9223372036854775807"'),
    ],
)
def test_a_value_that_does_not_fit_stays_under_a_key_that_no_field_has(avro_type: Any, written: str) -> None:
    dimension = stores(avro_type)
    (row,) = with_known_fields(dimension, change(dimension, None, f'{{"x":{written}}}')).rows()
    assert row[-2:] == (None, f'{{"~kept:x":{written}}}')


@pytest.mark.parametrize(
    ("avro_type", "value", "written"),
    [
        ("string", "a\0", '"~text:a\\\\000"'),
        ("double", float("inf"), '"~double:Infinity"'),
        ("double", -1e9, "-1000000000.0"),
        (MOMENT, 2**62, f'"~timestamp-micros:{2**62}"'),
    ],
)
def test_a_rebuild_keeps_a_value_that_the_cleaner_accepted_before_the_column(
    avro_type: Any, value: Any, written: str
) -> None:
    dimension = stores(avro_type)
    (row,) = without_unfit(dimension, change(dimension, value, '{"a":1}')).rows()
    assert row[-2:] == (None, f'{{"a":1,"~kept:x":{written}}}')
    assert without_unfit(dimension, change(dimension, None, None)).rows()[0][-2:] == (None, None)
