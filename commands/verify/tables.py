"""The tables that clean records and dead letters are loaded into: ``clean_<entity>``, ``dead_<entity>``."""

from collections.abc import Sequence

import polars as pl
from confluent_kafka import Message

from commands.audit.avro import Decoder, layout
from commands.audit.engine import Engine, create, insert
from commands.audit.records import (
    BASE,
    CLEAN,
    DEAD,
    Fields,
    FrameSchema,
    clean_frame,
    dead_frame,
    field_columns,
)
from retail_stream import topics
from retail_stream.entities import Entity

_RECODED_BATCH = 20_000


class CleanTable:
    """``clean_<entity>``: a row per clean record, repeats included."""

    def __init__(self, engine: Engine, entity: Entity) -> None:
        self._engine = engine
        self._name = f"clean_{entity}"
        create(engine, self._name, CLEAN)

    def take(self, messages: Sequence[Message]) -> None:
        """Append records."""
        insert(self._engine, self._name, clean_frame(messages))


class DeadLetterTable:
    """``dead_<entity>``: a row per dead letter, repeats included; ``rules`` is sorted, ``reported`` as it came."""

    def __init__(self, engine: Engine, entity: Entity) -> None:
        self._engine = engine
        self._name = f"dead_{entity}"
        self._select = "* REPLACE (array_to_string(list_sort(list_distinct(string_split(rules, ','))), ',') AS rules)"
        self._select += ", rules AS reported"
        create(engine, self._name, DEAD, self._select)

    def take(self, messages: Sequence[Message]) -> None:
        """Append dead letters."""
        insert(self._engine, self._name, dead_frame(messages), self._select)


def recode(engine: Engine, entity: Entity, raw: Decoder, clean: Decoder) -> None:
    """Make ``recoded_<entity>``: the fields of the clean records whose bytes differ from those of their raw record.

    Columns: ``partition`` and ``offset`` of the clean record, ``decoded``, ``extra``, the fields.
    """
    columns = field_columns(layout(topics.raw(entity)))
    place: FrameSchema = {name: BASE[name] for name in ("partition", "offset")}
    schema: FrameSchema = {**place, "decoded": pl.Boolean(), "extra": pl.String(), **columns}
    table = f"recoded_{entity}"
    create(engine, table, schema)
    same = {(r, c) for r, a in raw.layouts.items() for c, b in clean.layouts.items() if a["fields"] == b["fields"]}
    layouts = ", ".join(f"({r}, {c})" for r, c in same) or "(NULL, NULL)"
    # A second connection: while this inserts, the other one is being read from.
    source = engine.cursor()
    source.execute(f"""
        SELECT c.partition, c.offset, c.schema_id, c.body
        FROM clean_{entity} c LEFT JOIN raw_{entity} r ON r.partition = c.partition AND r.offset = c.source_offset
        WHERE r.body IS DISTINCT FROM c.body OR (r.schema_id, c.schema_id) NOT IN ({layouts})
    """)
    fields = Fields(columns)
    while batch := source.fetchmany(_RECODED_BATCH):
        rows = []
        for partition, offset, number, body in batch:
            rows.append((partition, offset, *fields.row(clean.whole(number, body))))
        insert(engine, table, pl.DataFrame(rows, schema=schema, orient="row"))
