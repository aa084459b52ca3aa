"""Positions against a model that keeps everything and works each answer out from the beginning."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from services.cleaner.transport.chunks import Chunk
from services.cleaner.transport.positions import Partition, Positions, Progress

PARTITIONS = [("a", 0), ("a", 1), ("b", 0)]
partitions = st.sampled_from(PARTITIONS)
offsets = st.none() | st.integers(0, 50)


def chunk(partition: Partition, first: int, next_: int) -> Chunk:
    """Records at its ends, a gap between them where there is room for one."""
    return Chunk(*partition, [None] * min(2, next_ - first), first, next_)  # type: ignore[list-item]


@dataclass
class Ownership:
    """One partition since it was assigned, or sought: all that was ever read of it."""

    start: int | None
    committed: int | None
    read: list[Chunk | int] = field(default_factory=list)  # an int: the end was reached there
    handed: int = 0  # how many chunks the agents got
    done: set[Chunk] = field(default_factory=set)
    aside: set[Chunk] = field(default_factory=set)

    @property
    def position(self) -> int | None:
        last = self.read[-1] if self.read else self.start
        return last.next_offset if isinstance(last, Chunk) else last

    @property
    def chunks(self) -> list[Chunk]:
        return [c for c in self.read if isinstance(c, Chunk)]

    @property
    def acknowledged(self) -> int | None:
        at = self.start
        for step in self.read:
            if isinstance(step, Chunk) and step not in self.done:
                break
            at = step.next_offset if isinstance(step, Chunk) else step
        return at


class PositionsMachine(RuleBasedStateMachine):
    """Whatever readers, agents, rebalances, seeks and commits do, in whatever order."""

    held = Bundle("held")  # chunks that some agent has in hand, also of partitions lost long ago

    def __init__(self) -> None:
        super().__init__()
        self.positions = Positions()
        self.owned: dict[Partition, Ownership] = {}

    @rule(committed=st.dictionaries(partitions, offsets))
    def assign(self, committed: dict[Partition, int | None]) -> None:
        self.positions.assign(committed)
        self.owned = {p: Ownership(offset, offset) for p, offset in committed.items()}

    @rule(partition=partitions, offset=st.integers(0, 50))
    def restart(self, partition: Partition, offset: int) -> None:
        if partition in self.owned:
            self.positions.restart(partition, offset)
            self.owned[partition] = Ownership(offset, self.owned[partition].committed)

    @rule(partition=partitions, gap=st.integers(0, 3), length=st.integers(1, 9))
    def read(self, partition: Partition, gap: int, length: int) -> None:
        own = self.owned.get(partition)
        first = gap + ((own.position or 0) if own else 0)
        new = chunk(partition, first, first + length)
        self.positions.add(new)
        if own:
            own.read.append(new)

    @rule(partition=partitions, further=st.integers(-2, 3))
    def reach_end(self, partition: Partition, further: int) -> None:
        own = self.owned.get(partition)
        end = max(0, further + ((own.position or 0) if own else 0))
        self.positions.reached_end(partition, end)
        if own and (own.position is None or end > own.position):
            own.read.append(end)

    @rule(target=held, but=st.sets(partitions, max_size=2))
    def take(self, but: set[Partition]):
        taken = self.positions.take(but)
        waiting = {p for p, own in self.owned.items() if own.handed < len(own.chunks)} - but
        if taken is None:
            assert not waiting
            return multiple()
        assert (taken.topic, taken.partition) in waiting
        own = self.owned[taken.topic, taken.partition]
        assert taken is own.chunks[own.handed]
        own.handed += 1
        return taken

    @rule(chunk=held)
    def defer(self, chunk: Chunk) -> None:
        self.positions.defer(chunk)
        if (chunk.topic, chunk.partition) in self.owned:
            self.owned[chunk.topic, chunk.partition].aside.add(chunk)

    @rule(chunk=consumes(held))
    def acknowledge(self, chunk: Chunk) -> None:
        own = self.owned.get((chunk.topic, chunk.partition))
        ours = own is not None and chunk in own.chunks
        assert self.positions.acknowledge(chunk) is ours
        assert self.positions.acknowledge(chunk) is False, "twice"
        if ours:
            self.owned[chunk.topic, chunk.partition].done.add(chunk)

    @rule()
    def commit(self) -> None:
        stored = self.positions.committable()
        self.positions.commit(stored)
        for partition, offset in stored.items():
            self.owned[partition].committed = offset

    @rule(partition=partitions)
    def commit_of_a_stranger(self, partition: Partition) -> None:
        if partition not in self.owned:
            self.positions.commit({partition: 1})

    @invariant()
    def committable_is_what_was_acknowledged_and_never_more(self) -> None:
        assert self.positions.committable() == {
            p: own.acknowledged
            for p, own in self.owned.items()
            if own.acknowledged is not None and own.acknowledged != own.committed
        }
        for partition, offset in self.positions.committable().items():
            own = self.owned[partition]
            assert all(offset <= c.first_offset for c in own.chunks if c not in own.done)

    @invariant()
    def every_partition_stands_where_it_should(self) -> None:
        assert set(self.positions) == set(self.owned)
        for partition, at in self.positions.snapshot().items():
            own = self.owned[partition]
            assert at[:3] == (own.position, own.acknowledged, own.committed)
        for topic in ("a", "b"):
            assert self.positions.starts(topic) == {p: o.position for (t, p), o in self.owned.items() if t == topic}
            owned = [o for (name, _), o in self.owned.items() if name == topic]
            open_ = [c for o in owned for c in o.chunks if c not in o.done | o.aside]
            assert self.positions.outstanding(topic) == (len(open_), sum(map(len, open_)))


PositionsMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPositions = PositionsMachine.TestCase


def test_a_busy_partition_does_not_starve_the_others():
    positions = Positions()
    positions.assign(dict.fromkeys(PARTITIONS, 0))
    for first in range(3):
        for partition in PARTITIONS[: 3 - first]:
            positions.add(chunk(partition, first, first + 1))
    taken = [positions.take() for _ in range(6)]
    assert (
        [(c.topic, c.partition) for c in taken if c]
        == [
            *PARTITIONS,  # each once before any twice
            *PARTITIONS[:2],
            PARTITIONS[0],
        ]
    )


def test_a_snapshot_may_be_taken_while_chunks_are():
    # `take` changes the order of the partitions; a thread that walks over them meanwhile must not be disturbed.
    positions = Positions()
    positions.assign(dict.fromkeys(PARTITIONS, 0))
    positions.add(chunk(PARTITIONS[0], 0, 1))
    walk = iter(positions)
    next(walk)
    positions.take()
    assert [PARTITIONS[0], *walk] == PARTITIONS


def test_an_end_that_was_seen_never_goes_back_and_a_stranger_has_none():
    positions = Positions()
    positions.assign({("a", 0): 5})
    positions.saw_end(("a", 0), 9)
    positions.saw_end(("a", 0), 7)
    positions.saw_end(("a", 1), 7)
    positions.reached_end(("a", 1), 7)
    assert positions.snapshot() == {("a", 0): Progress(5, 5, 5, 9)}
    with pytest.raises(KeyError):
        positions.progress(("a", 1))
