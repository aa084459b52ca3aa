"""One transaction of the aggregator: gather what is stored → decide → write everything back, positions included."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from confluent_kafka import Message
from sqlalchemy import Connection

from retail_stream.kafka import batches
from retail_stream.topics import Group
from retail_stream.warehouse import positions, replays
from retail_stream.warehouse.positions import Position
from services.aggregator import facts, lifecycle, outbox, ownership, settings, warehouse, windows
from services.aggregator.desk import Desk
from services.aggregator.ownership import Owned
from services.aggregator.step import Slice, State, Step, step


@dataclass(frozen=True)
class Applied:
    """True once the transaction commits. ``published``: the outbox grew; ``facts``: how many were stored; ``results``:

    how many for `sales.windows`, by kind and :class:`lifecycle.Outcome`.
    """

    owned: Mapping[int, Owned]
    step: Step
    facts: int
    results: Mapping[tuple[str, lifecycle.Outcome], int]
    published: bool


def apply(
    connection: Connection,
    desk: Desk,
    owned: Mapping[int, Owned],
    parts: Mapping[int, Slice],
    messages: Mapping[int, list[Message]],
    idle: frozenset[int],
) -> Applied:
    """Take what was read of each of our partitions (``parts``, from ``messages``) into the warehouse.

    ``idle``: those of ours that have been quiet long enough.

    Raises:
        Fenced: another worker owns one of the partitions; the transaction must roll back.
        SettingsError: a replica that began with an empty warehouse too has stored other settings.
    """
    rules = desk.settings.rules
    # gather
    marks = warehouse.lock(connection, desk.topic)
    settings.compare(marks.settings, desk.settings.shaping)
    # Whatever came of a partition, be it a repeat only, it is not quiet.
    asleep = (idle & owned.keys()) - {p for p, part in parts.items() if part.rows.height}
    others = marks.idle - owned.keys()
    fresh = {
        p: replace(s, rows=replays.without_second(connection, Group.AGGREGATOR, (desk.topic, p), s.rows))
        for p, s in parts.items()
    }
    state = State(marks.watermarks, others | asleep, marks.stream, {p: o.held for p, o in owned.items()})
    # decide
    did = step(fresh, state, marks.now, rules)
    past = did.stream.watermark
    due = past if windows.may_be_due(rules.windows, rules.lateness, marks.stream.watermark, past) else None
    stored = warehouse.window_rows(connection, did.deltas, due, rules.lateness)
    settled = lifecycle.settle(stored, did.deltas, past, rules.lateness)
    # apply
    warehouse.save_windows(connection, settled.rows, marks.now)
    stored_facts = facts.store(connection, did.sales) if desk.settings.fact_sales == "on" else 0
    warehouse.save_identities(connection, did.chunks, did.watermarks)
    grown = outbox.put(
        connection,
        [
            *desk.encoder.rises(did.rises, marks.now),
            *desk.encoder.late(did.sales, messages),
            *desk.encoder.windows(settled.results, marks.now),
        ],
    )
    epochs = {p: o.position.epoch for p, o in owned.items()}
    warehouse.save_marks(connection, desk.topic, marks, did.stream, did.watermarks, epochs, asleep)
    moved = {p: _moved(o.position, parts[p]) for p, o in owned.items()}
    positions.advance(connection, Group.AGGREGATOR, [q for p, q in moved.items() if q != owned[p].position])
    for p, part in parts.items():
        if part.replayed:
            ownership.forget_rises(connection, p, part.end)
    now_owned = {
        p: Owned(moved[p], did.held[p], tuple(r for r in o.replayed if r not in parts[p].replayed))
        for p, o in owned.items()
    }
    return Applied(now_owned, did, stored_facts, lifecycle.outcomes(settled.results), grown)


def _moved(position: Position, part: Slice) -> Position:
    largest = max(position.source_offset, part.rows[batches.SOURCE].max() if part.rows.height else -1)  # type: ignore[type-var]
    return Position(position.topic, position.partition, position.epoch, part.end, largest)  # type: ignore[arg-type]
