"""The cleaner evaluates conditions with Polars and `verify` with DuckDB: both say the same of every record."""

import random

import polars as pl
import pytest

from commands.audit import engine as duck
from commands.audit.conditions import define
from retail_stream.entities import Entity
from retail_stream.rules.compiling import compiled
from retail_stream.rules.rule_set import fields_of
from tests.unit.retail_stream.rules import conditions

SALES = fields_of(Entity.SALES)
ROWS = 200


def sales(seed: int) -> pl.DataFrame:
    rng = random.Random(seed)
    rows = [conditions.row(rng) for _ in range(ROWS)]
    wide = dict.fromkeys(("transaction_id", *conditions.TIMES), pl.Int64())
    dtypes = dict.fromkeys(conditions.WHOLES, pl.Int32()) | dict.fromkeys(conditions.DOUBLES, pl.Float64()) | wide
    return pl.DataFrame(rows, schema={n: dtypes.get(n, pl.String()) for n in rows[0]}, orient="row")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> duck.Engine:
    return duck.connect(tmp_path_factory.mktemp("spill"))


def by_duckdb(engine: duck.Engine, must: str, table: pl.DataFrame) -> list[bool | None]:
    wide = table.rename({"record_time": "ts"}).with_columns(pl.col(pl.Int32).cast(pl.Int64)).with_row_index("row")
    duck.create(engine, "incoming_sales", wide.schema)
    duck.insert(engine, "incoming_sales", wide)
    call = define(engine, Entity.SALES, "condition", must)
    return [held for (held,) in engine.execute(f"SELECT {call} FROM incoming_sales ORDER BY row").fetchall()]


def by_polars(must: str, table: pl.DataFrame) -> list[bool | None]:
    return table.select(pl.lit(0).alias("row"), compiled(must, SALES).alias("held"))["held"].to_list()


def agree(engine: duck.Engine, must: str, table: pl.DataFrame) -> None:
    found, expected = by_polars(must, table), by_duckdb(engine, must, table)
    unlike = [
        (table.row(i, named=True), a, b) for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a is not b
    ]
    assert unlike == [], f"{must}: Polars {unlike[0][1]}, DuckDB {unlike[0][2]} for {unlike[0][0]}"


@pytest.mark.parametrize("first", range(0, 500, 50))
def test_random_conditions_hold_for_the_same_records(engine: duck.Engine, first: int) -> None:
    table = sales(first)
    for seed in range(first, first + 50):
        agree(engine, conditions.valid_condition(seed), table)


@pytest.mark.parametrize("first", range(0, 300, 100))
def test_random_patterns_match_the_same_texts(engine: duck.Engine, first: int) -> None:
    table = sales(first)
    for seed in range(first, first + 100):
        agree(engine, f"regexp_matches(payment_method, '{conditions.regular_expression(random.Random(seed))}')", table)
