"""Windows the slow way: one sale, one window at a time, in plain Python integers.

It imports nothing of the aggregator: the rules are written twice.
"""

from dataclasses import dataclass, field

SECOND = 1_000_000
LONGEST_LOOK_AWAY = 10 * SECOND


@dataclass(frozen=True)
class Rules:
    """``kinds``: size and slide of each kind of window; all in microseconds.

    ``further``: groupings beside store and product, as name, column, and kinds of their own. ``sessions``: name, column
    and gap.
    """

    kinds: tuple[tuple[int, int], ...]
    delay: int
    lateness: int
    further: tuple[tuple[str, str, tuple[tuple[int, int], ...]], ...] = ()
    sessions: tuple[tuple[str, str, int], ...] = ()

    @property
    def groupings(self) -> tuple[tuple[str, str, tuple[tuple[int, int], ...]], ...]:
        return ("product", "product_id", self.kinds), ("store", "store_id", self.kinds), *self.further


@dataclass(frozen=True)
class Move:
    """A step: how many records of each partition the owner of ``mine`` reads, and which partitions are idle.

    ``restarts``: the owner has just started and knows only the stored state. ``fails``: a step with so many records of
    each partition failed just before.
    """

    cut: dict[int, int]
    mine: frozenset[int]
    idle: frozenset[int]
    now: int
    restarts: bool = False
    fails: dict[int, int] | None = None


@dataclass
class Feed:
    """The input of one random run: the settings as text and as rules, the records of each partition, the moves."""

    windows: str
    rules: Rules
    records: dict[int, list[dict]]
    moves: list[Move]


@dataclass
class Outcome:
    """The results on which the oracle and the aggregator must agree."""

    rows: dict[tuple, tuple] = field(default_factory=dict)  # (kind, size, start, id) → measures, state
    late: set[tuple[int, int]] = field(default_factory=set)
    dropped: set[tuple[int, int]] = field(default_factory=set)
    stream: list[int | None] = field(default_factory=list)
    rises: list[tuple[int, int, int]] = field(default_factory=list)
    ends: dict[tuple, int] = field(default_factory=dict)  # of sessions, by the key of rows
    counted: "Counted" = field(default_factory=dict, compare=False)


#: Sales that count in sessions: name, gap and id → time and measures of each.
Counted = dict[tuple, list[tuple[int, tuple[int, ...]]]]


def top(*times: int | None) -> int | None:
    return max((t for t in times if t is not None), default=None)


def count(r: dict, p: int, mark: int | None, rules: Rules, seen: set, sums: dict, out: Outcome) -> None:
    kinds = {kind for _, _, own in rules.groupings for kind in own}
    starts = [(size, s) for size, slide in kinds for s in brute_starts(size, slide, r["event_time"])]
    identity = (r["transaction_id"], r["event_time"], r["store_id"])
    ends = [*(sum(s) for s in starts), *(r["event_time"] + gap for _, _, gap in rules.sessions)]
    held = mark is None or max(ends) + rules.lateness > mark
    if held and identity in seen:
        out.dropped.add((p, r["offset"]))
        return
    seen.add(identity)
    total, returned = round(r["total_amount"] * 100), r["quantity"] < 0
    add = (
        1,
        0 if returned else r["quantity"],
        -r["quantity"] if returned else 0,
        0 if returned else total,
        -total if returned else 0,
        round(r["discount_applied"] * 100),
        round(r["tax_amount"] * 100),
    )
    for name, column, gap in rules.sessions:
        if mark is not None and mark >= r["event_time"] + gap + rules.lateness:
            out.late.add((p, r["offset"]))
        else:
            out.counted.setdefault((name, gap, key_of(r[column])), []).append((r["event_time"], add))
    for size, start in starts:
        if mark is not None and mark >= start + size + rules.lateness:
            out.late.add((p, r["offset"]))
            continue
        for name, column, own in rules.groupings:
            if size in dict(own):
                row = sums.setdefault((name, size, start, key_of(r[column])), [0] * 7)
                row[:] = [a + b for a, b in zip(row, add, strict=True)]


def key_of(value: str | int) -> str | int:
    """The id that a column's value makes."""
    return value[:500] if isinstance(value, str) else value


def sessions(counted: Counted) -> dict[tuple, tuple[int, tuple[int, ...]]]:
    """Sessions of all sales that count, by the key of rows: their ends and measures.

    Each sale begins as a session of its own; two that overlap or touch become one, until none do.
    """
    made: dict[tuple, tuple[int, tuple[int, ...]]] = {}
    for (name, gap, number), sales in counted.items():
        apart = [(time, time + gap, add) for time, add in sales]
        while pair := next(
            ((a, b) for a in apart for b in apart if a is not b and a[0] <= b[1] and b[0] <= a[1]), None
        ):
            a, b = pair
            apart = [s for s in apart if s is not a and s is not b]
            both = tuple(x + y for x, y in zip(a[2], b[2], strict=True))
            apart.append((min(a[0], b[0]), max(a[1], b[1]), both))
        made |= {(name, gap, start, number): (end, add) for start, end, add in apart}
    return made


def brute_starts(size: int, slide: int, time: int) -> list[int]:
    """Every multiple of the slide whose window contains the time, by trying all that are near."""
    near = round(time / slide)
    return [s for i in range(-(size // slide) - 2, 3) if (s := (near + i) * slide) <= time < s + size]


def next_offset(run: Feed, p: int, done: int) -> int:
    """The next offset behind the first ``done`` records of a partition."""
    return run.records[p][done - 1]["offset"] + 1 if done else 0


def oracle(run: Feed) -> Outcome:
    """Compute the outcome record by record and window by window; only the watermarks need the moves."""
    out, rules = Outcome(), run.rules
    marks: dict[int, int | None] = dict.fromkeys(run.records)
    done = dict.fromkeys(run.records, 0)
    seen: dict[int, set] = {p: set() for p in run.records}
    sums: dict[tuple, list[int]] = {}
    stream: int | None = None
    went_on: int | None = None
    for move in run.moves:
        idle, now = move.idle, move.now
        for p in move.mine:
            n = move.cut[p]
            mark = marks[p]
            if (n or p not in idle) and stream is not None and (mark is None or mark < stream):
                marks[p] = stream
                out.rises.append((p, next_offset(run, p, done[p]), stream))
            for r in run.records[p][done[p] : done[p] + n]:
                count(r, p, marks[p], rules, seen[p], sums, out)
                marks[p] = top(marks[p], min(r["event_time"], r["timestamp"]) - rules.delay)
            done[p] += n
        busy = [p for p in marks if p not in idle or move.cut[p]]
        if busy:
            known = [mark for p in busy if (mark := marks[p]) is not None]
            if len(known) == len(busy):
                stream = top(stream, min(known))
            went_on = None
        else:
            stream = top(stream, *marks.values())
            if stream is not None:
                if went_on is not None and 0 < now - went_on <= LONGEST_LOOK_AWAY:
                    stream += now - went_on
                went_on = now
        out.stream.append(stream)
    for key, measures in sums.items():
        end = key[1] + key[2]
        past = stream is not None and stream >= end
        over = stream is not None and stream >= end + rules.lateness
        out.rows[key] = (*measures, "final" if over else "fired" if past else "open")
    for key, (end, measures_of_session) in sessions(out.counted).items():
        past = stream is not None and stream >= end
        over = stream is not None and stream >= end + key[1] + rules.lateness
        out.rows[key] = (*measures_of_session, "final" if over else "fired" if past else "open")
        out.ends[key] = end
    return out
