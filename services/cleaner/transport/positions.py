"""The offsets of each partition: what was read, passed to an agent, acknowledged, and may be committed.

It replaces Faust's lists of acknowledged offsets. Those move on by one run of consecutive offsets for each commit
interval, and fall behind if only the last offset of a chunk is acknowledged.  Pure: no I/O, no clock.
One thread changes it; any thread may look at `snapshot`.

One partition over time::

    acknowledged        at the agent       waiting       position (next to be read)
    ──────────────┤├──────────────────┤├───────────────┤├─ ─ ─ ─ ─
                  └ committable: everything before it was acknowledged
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.cleaner.transport.chunks import Chunk

Partition = tuple[str, int]
"""(topic, partition); Faust's and aiokafka's named tuples are equal to it."""


class Progress(NamedTuple):
    """Offsets of one partition; ``None`` = not known yet.  Lag = ``end`` − ``acknowledged``."""

    position: int | None
    acknowledged: int | None
    committed: int | None
    end: int | None


@dataclass(slots=True)
class _Entry:
    """Offsets up to ``next_offset``; ``chunk`` is None when they were acknowledged or hold no record.

    ``deferred``: the agent has sent its records, and only waits for their delivery.
    """

    chunk: Chunk | None
    next_offset: int
    deferred: bool = False


@dataclass(slots=True)
class _PartitionState:
    position: int | None
    acknowledged: int | None
    committed: int | None
    end: int | None = None
    waiting: deque[Chunk] = field(default_factory=deque)
    entries: deque[_Entry] = field(default_factory=deque)

    def advance(self) -> None:
        while self.entries and self.entries[0].chunk is None:
            self.acknowledged = self.entries.popleft().next_offset

    def progress(self) -> Progress:
        return Progress(self.position, self.acknowledged, self.committed, self.end)


class Positions:
    """The partitions that this worker owns now; chunks of an earlier ownership are ignored."""

    def __init__(self) -> None:
        self._states: dict[Partition, _PartitionState] = {}

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._states)

    def __contains__(self, partition: object) -> bool:
        return partition in self._states

    def assign(self, committed: Mapping[Partition, int | None]) -> None:
        """Forget all and own these partitions, from their committed offsets (None = never committed)."""
        self._states = {partition: _PartitionState(offset, offset, offset) for partition, offset in committed.items()}

    def restart(self, partition: Partition, offset: int) -> None:
        """Forget the chunks of a partition and read again from ``offset``, which may lie behind its position."""
        self._states[partition] = _PartitionState(offset, offset, self._states[partition].committed)

    def starts(self, topic: str) -> dict[int, int | None]:
        """Partition → next offset to be read, of the owned partitions of ``topic``."""
        return {partition: state.position for (name, partition), state in self._states.items() if name == topic}

    def add(self, chunk: Chunk) -> None:
        """A chunk was read: it waits for the agent."""
        state = self._states.get((chunk.topic, chunk.partition))
        if state is not None:
            state.position = chunk.next_offset
            state.waiting.append(chunk)
            state.entries.append(_Entry(chunk, chunk.next_offset))

    def reached_end(self, partition: Partition, end: int) -> None:
        """The reader is at the end of the partition, ``end``; from its position up to there, there are no records."""
        state = self._states.get(partition)
        if state is None:
            return
        state.end = end
        if state.position is None or end > state.position:
            state.position = end
            state.entries.append(_Entry(None, end))
            state.advance()

    def saw_end(self, partition: Partition, end: int) -> None:
        """The partition has records up to ``end``, not all of them read yet."""
        state = self._states.get(partition)
        if state is not None:
            state.end = max(end, state.end or 0)

    def take(self, but: Collection[Partition] = ()) -> Chunk | None:
        """The next chunk for an agent, the partitions in turn, none of the partitions ``but``."""
        for partition, state in self._states.items():
            if state.waiting and partition not in but:
                # To the back of the queue, so that a busy partition does not starve the others; in a new dict, because
                # another thread may be reading the old one.
                others = {name: other for name, other in self._states.items() if name != partition}
                self._states = {**others, partition: state}
                return state.waiting.popleft()
        return None

    def acknowledge(self, chunk: Chunk) -> bool:
        """The agent is done with a chunk.  False: it is not ours, or no longer, and nothing happens."""
        for entry in self._entries(chunk):
            entry.chunk = None
            self._states[chunk.topic, chunk.partition].advance()
            return True
        return False

    def _entries(self, chunk: Chunk) -> Iterator[_Entry]:
        """The entry of this chunk, if it is ours."""
        state = self._states.get((chunk.topic, chunk.partition))
        return (entry for entry in (state.entries if state else ()) if entry.chunk is chunk)

    def defer(self, chunk: Chunk) -> None:
        """The agent went on before it was done with this chunk: it is not acknowledged, and not `outstanding`."""
        for entry in self._entries(chunk):
            entry.deferred = True

    def outstanding(self, topic: str) -> tuple[int, int]:
        """(chunks, records) of the topic that were read and not acknowledged, without the deferred ones."""
        chunks = [
            entry.chunk
            for (name, _), state in self._states.items()
            if name == topic
            for entry in state.entries
            if entry.chunk is not None and not entry.deferred
        ]
        return len(chunks), sum(map(len, chunks))

    def committable(self) -> dict[Partition, int]:
        """Partition → offset that is to be committed: everything before it was acknowledged."""
        return {
            partition: state.acknowledged
            for partition, state in self._states.items()
            if state.acknowledged is not None and state.acknowledged != state.committed
        }

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """The broker has stored these offsets."""
        for partition, offset in offsets.items():
            if partition in self._states:
                self._states[partition].committed = offset

    def progress(self, partition: Partition) -> Progress:
        """Raises KeyError for a partition that is not owned."""
        return self._states[partition].progress()

    def snapshot(self) -> dict[Partition, Progress]:
        """The offsets of each owned partition."""
        return {partition: state.progress() for partition, state in self._states.items()}
