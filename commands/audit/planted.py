"""The generator's ledger as a table: where each planted fault is, and what a pipeline should do with it."""

from collections.abc import Sequence

import polars as pl
from confluent_kafka import Message

from commands.audit.avro import Decoder
from commands.audit.engine import Engine, create, insert
from commands.audit.records import FrameSchema, frame

_PLANTED: FrameSchema = {
    "entity": pl.String(),
    "partition": pl.Int64(),
    "offset": pl.Int64(),
    "id": pl.Int64(),
    "fault": pl.String(),
    "expected": pl.String(),
}


class PlantedTable:
    """``planted``: a row per entry of the ledger."""

    def __init__(self, engine: Engine, decoder: Decoder) -> None:
        self._engine = engine
        self._decoder = decoder
        create(engine, "planted", _PLANTED)

    def take(self, messages: Sequence[Message]) -> None:
        """Append entries; a record that is not an entry is left out."""
        entries = (self._decoder.framed(m.value()) for m in messages)
        rows = [tuple(entry[name] for name in _PLANTED) for entry in entries if entry is not None]
        insert(self._engine, "planted", frame(rows, _PLANTED))
