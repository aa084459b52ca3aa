"""The table of raw records, each judged by every rule that was ever in force."""

from collections.abc import Sequence

import polars as pl
from confluent_kafka import Message

from commands.audit import rules
from commands.audit.avro import Decoder, layout
from commands.audit.engine import Engine, create, insert
from commands.audit.records import RAW, field_columns, raw_frame
from commands.audit.rule_sets import RuleSets
from retail_stream import topics
from retail_stream.entities import Entity


class RawTable:
    """A row per raw record, with its fields as they must be in the clean record.

    ``broken``: the names of the rules that are code and that it breaks, sorted, with commas between; '' for none.
    ``unmet``: the numbers of the conditions that it does not meet and that versions of the rules differ in.
    """

    def __init__(
        self, engine: Engine, entity: Entity, decoder: Decoder, book: RuleSets, name: str | None = None
    ) -> None:
        """``name``: of the table; ``raw_<entity>`` if it is not given."""
        self._engine = engine
        self._decoder = decoder
        self._columns = field_columns(layout(topics.raw(entity)))
        self._name = name or f"raw_{entity}"
        self._select = f"{_judged(entity)}, {book.unmet(engine)} AS unmet"
        book.load(engine)
        create(engine, self._name, {**RAW, **self._columns}, self._select)

    def take(self, messages: Sequence[Message]) -> None:
        """Decode, judge and append records."""
        self.add(raw_frame(messages, self._decoder, self._columns))

    def add(self, frame: pl.DataFrame) -> None:
        """Judge and append decoded records."""
        insert(self._engine, self._name, frame, self._select)


def _judged(entity: Entity) -> str:
    nothing = f"'{rules.VALUE_PRESENT}'" if entity is Entity.SALES else rules.broken(rules.of_tombstones())
    verdict = (
        f"CASE WHEN decoded THEN {rules.broken(rules.of_values(entity))}"
        f" WHEN body IS NOT NULL THEN '{rules.VALID_AVRO}' ELSE {nothing} END"
    )
    both = f"concat_ws(',', nullif({verdict}, ''), '{rules.HEADERS_READABLE}')"
    verdict = f"CASE WHEN headers_ok THEN {verdict} ELSE array_to_string(list_sort(string_split({both}, ',')), ',') END"
    return f"*, {verdict} AS broken"
