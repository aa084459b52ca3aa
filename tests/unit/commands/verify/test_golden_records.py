"""`verify` judges the golden records by the rules that they name, as the cleaner does."""

import pytest

from commands.audit import engine as duck
from commands.audit.avro import Decoder, layout
from commands.audit.raw_table import RawTable
from commands.audit.rule_sets import RuleSets
from commands.verify import cleaning
from commands.verify.tables import CleanTable, DeadLetterTable
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.rules.rule_set import load
from tests.harness.examples import RAW_ID, Example, examples, schema
from tests.unit.commands.verify.test_cleaning import Record
from tests.unit.services.cleaner.test_rules import is_as_named


def with_columns_only(kind: str, entity: Entity) -> list[Example]:
    """Golden records without headers."""
    found = [e for e in examples(kind) if e.entity is entity]
    return [e for e in found if "headers_hex" not in e.path.read_text()]


@pytest.mark.parametrize("entity", Entity)
def test_golden_records_break_the_rules_that_they_name(tmp_path, entity: Entity) -> None:
    engine = duck.connect(tmp_path)
    engine.execute("CREATE TABLE committed AS SELECT '' AS topic, 0 AS partition, 0 AS next_offset")
    engine.execute("CREATE TABLE letters_from (topic VARCHAR, partition BIGINT, first BIGINT)")
    found = [e for kind in ("valid", "invalid") for e in with_columns_only(kind, entity)]
    assert len(found) > 5
    book = RuleSets(load(entity))
    decoder = Decoder(layout(topics.raw(entity)), {RAW_ID: schema(entity, "raw")})
    CleanTable(engine, entity)
    DeadLetterTable(engine, entity)
    records = [Record(n, e.raw.values[0], e.raw.keys[0], stamp=e.raw.timestamps[0]) for n, e in enumerate(found)]
    RawTable(engine, entity, decoder, book).take(records)  # type: ignore[arg-type]
    cleaning.place(engine, book)
    places = engine.execute(f'SELECT broken FROM places_{entity} ORDER BY "offset"').fetchall()
    broken = [[name for name in names.split(",") if name] for (names,) in places]
    wrong = [(str(e), names) for e, names in zip(found, broken, strict=True) if not is_as_named(e, names)]
    assert wrong == []
