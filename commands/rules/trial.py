"""What a candidate rule set would do with the records of a raw topic."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl
from confluent_kafka import Message

from retail_stream import topics
from retail_stream.avro.decode import RecordSchema, schema_id
from retail_stream.avro.decoder import ROW
from retail_stream.avro.registry import Registry, SubjectSchemas
from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.kafka import reading
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.rules import rule_set as files
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import RuleSet
from retail_stream.settings import Connections
from retail_stream.waiting import COMMAND_PATIENCE_S, wait_for

EXAMPLES = 3
_FAR_MS = 2**62 // 1000


@dataclass
class Broken:
    """How many records break a rule, and the first of them in words."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


def candidate(file: Path) -> RuleSet:
    """The rule set of a file that is named like its entity, for example ``sales.toml``.

    Raises:
        SettingsError: no entity has that name.
        RuleError: the file or a rule is not valid.
    """
    if file.stem not in list(Entity):
        raise SettingsError(
            f"{file} is not named like an entity; allowed are {', '.join(f'{e}.toml' for e in Entity)}."
        )
    return files.read(Entity(file.stem), file)


class Trial:
    """Reads the raw topic once. ``records``: how many; ``unread``: those without fields, such as deletes.

    ``broken``: rule → the records that break it. ``rejected``: records that break at least one rule that rejects.
    """

    def __init__(self, connections: Connections, rules: RuleSet, since: datetime | None = None) -> None:
        """``since``: only records with this timestamp or a later one."""
        self._connections, self._rules = connections, rules
        self._since_ms = None if since is None else since.timestamp() * 1000
        self._reader = RecordSchema(topics.topic(topics.raw(rules.entity)).schema())
        registry = Registry(connections.schema_registry_url)
        wait = partial(wait_for, patience_s=COMMAND_PATIENCE_S)
        self._writers = SubjectSchemas(registry, topics.topic(topics.raw(rules.entity)).subject, wait)
        self.records = self.unread = self.rejected = 0
        self.broken: dict[str, Broken] = defaultdict(Broken)

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Judge every record that is there when the call begins. ``progress``: called with records read, and all.

        Raises:
            Unavailable: no broker or registry answers.
        """
        topic = topics.raw(self._rules.entity)
        ends = end_offsets(self._connections, topic_partitions(self._connections, topic))
        done, total = 0, sum(ends.values())
        for batch in reading.read(self._connections, {place: range(end) for place, end in ends.items()}):
            done += len(batch)
            self.judge([m for m in batch if self._since_ms is None or m.timestamp()[1] >= self._since_ms])
            progress(done, total)

    def judge(self, messages: Sequence[Message]) -> None:
        """Judge records."""
        values = [m.value() for m in messages]
        writers = self._writers.get(n for v in values if (n := schema_id(v)) is not None)
        table = self._reader.read(values, writers).numbered
        self.records += len(messages)
        self.unread += len(messages) - table.height
        if table.is_empty():
            return
        keys = [None if m.key() is None else m.key().decode(errors="replace") for m in messages]
        times = [min(max(m.timestamp()[1], -_FAR_MS), _FAR_MS) * 1000 for m in messages]
        seen = table.with_columns(
            pl.Series("key", keys, dtype=pl.String).gather(table[ROW]),
            pl.Series(files.RECORD_TIME, times, dtype=pl.Int64).gather(table[ROW]),
        )
        expectations = self._rules.expectations
        held = seen.select(rule.held for rule in expectations)
        for rule in expectations:
            rows = (~held[rule.name]).arg_true()
            found = self.broken[rule.name]
            found.count += len(rows)
            for row in rows.head(EXAMPLES - len(found.examples)).to_list():
                found.examples.append(_example(messages[table[ROW][row]], table.row(row, named=True)))
        rejecting = [rule.name for rule in expectations if rule.action in (Action.REJECT, Action.FAIL)]
        self.rejected += int((~held.select(pl.all_horizontal(rejecting)).to_series()).sum())


def _example(message: Message, record: dict[str, object]) -> str:
    fields = "  ".join(f"{name}={value!r}" for name, value in record.items() if name != ROW)
    return f"{message.topic()}/{message.partition()}@{message.offset()}  {fields}"
