"""Random streams of sales, run through the pure part of the aggregator and through the oracle; for test_step.py."""

import random
from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from services.aggregator import duplicates, lifecycle, sessions, step, totals
from services.aggregator.declared import USUAL, Aggregation, Declarations
from services.aggregator.totals import Grouping
from services.aggregator.watermark import Rise, Stream
from services.aggregator.windows import parse
from tests.harness.sales_oracle import SECOND, Feed, Move, Outcome, Rules, next_offset, oracle

PARTITIONS = 3
#: One run of so many is rebuilt from its topics.
REBUILT = 4
DTYPES = {
    "offset": pl.Int64,
    "timestamp": pl.Int64,
    "transaction_id": pl.Int64,
    "store_id": pl.Int32,
    "customer_id": pl.Int32,
    "payment_method": pl.String,
    "event_time": pl.Int64,
    "product_id": pl.Int32,
    "quantity": pl.Int32,
    "unit_price": pl.Float64,
    "total_amount": pl.Float64,
    "discount_applied": pl.Float64,
    "tax_amount": pl.Float64,
}
BASES = (1_700_000_000, -3_000_000_000, 951_782_395, 0)  # now, before 1970, five seconds before a leap day, the epoch
#: SALES_WINDOWS and, in seconds, size and slide of each kind.
SPECS = {
    "10s": ((10, 10),),
    "10s,1m": ((10, 10), (60, 60)),
    "30s/10s": ((30, 10),),
    "7s,20s/5s,1m": ((7, 7), (20, 5), (60, 60)),
    "1m/20s": ((60, 20),),
}


#: The first three have the same key: its first 500 characters.
METHODS = ("é" * 500, "é" * 500 + "a", "é" * 501, "", 'card, "quoted"\n', "cash")
#: A text and a number as key, in windows of their own or in those of SALES_WINDOWS.
FURTHER = (
    Aggregation("method", "payment_method", "string"),
    Aggregation("buyer", "customer_id", windows="45s,90s/15s"),
)
#: Sessions of a key that all partitions have, of a text, and of a key that one partition has.
SESSIONS = (
    Aggregation("product_visit", "product_id", session="2s"),
    Aggregation("method_visit", "payment_method", "string", session="4s"),
    Aggregation("store_visit", "store_id", session="8s"),
)
OWN = ((45 * SECOND, 45 * SECOND), (90 * SECOND, 15 * SECOND))


def feed(seed: int, *, with_sessions: bool = False) -> Feed:
    rng = random.Random(seed)
    spec = rng.choice(list(SPECS))
    kinds = tuple((size * SECOND, slide * SECOND) for size, slide in SPECS[spec])
    rules = Rules(kinds, rng.choice((0, 3, 10)) * SECOND, rng.choice((0, 5, 20)) * SECOND)
    if seed % 3 == 0:
        rules = replace(rules, further=(("method", "payment_method", kinds), ("buyer", "customer_id", OWN)))
    if with_sessions:
        gaps = tuple((a.name, a.by, int(a.session[:-1]) * SECOND) for a in SESSIONS)
        # Late sales that are in time: so sessions are published before others join them.
        rules = replace(rules, further=(), lateness=rng.choice((5, 20, 60)) * SECOND, sessions=gaps)
    base = rng.choice(BASES) * SECOND
    records: dict[int, list[dict]] = {p: [] for p in range(PARTITIONS)}
    skew = rng.choice((1, 15, 60))
    for i in range(rng.randrange(1, 70)):
        p = rng.randrange(PARTITIONS)
        mine = records[p]
        if mine and rng.random() < 0.2:
            record = {**rng.choice(mine), "quantity": rng.randrange(-3, 4), "timestamp": base + i * SECOND}
            if rng.random() < 0.2:
                record["event_time"] += SECOND
        else:
            # Whole seconds now and then, so that times fall on ends, on watermarks and on end + lateness.
            back = rng.randrange(skew + 1) * SECOND if rng.random() < 0.6 else rng.randrange(skew * SECOND)
            ahead = 40 * SECOND if rng.random() < 0.03 else 0
            record = {
                "timestamp": base + i * SECOND + rng.choice((0, 0, 100 * SECOND)) * (rng.random() < 0.05),
                "transaction_id": rng.randrange(40),
                "store_id": p * 10 + rng.randrange(2),
                "customer_id": i % 4,
                "payment_method": METHODS[i % len(METHODS)],
                "event_time": base + i * SECOND - back + ahead - (rng.random() < 0.15),
                "product_id": rng.randrange(3),
                "quantity": rng.randrange(-3, 4),
                "unit_price": 1.5,
                "total_amount": rng.randrange(-(10**6), 10**6) / 1000,
                "discount_applied": rng.randrange(1000) / 200,
                "tax_amount": rng.uniform(-5, 5),
            }
        mine.append({**record, "offset": len(mine) * 2})
    return Feed(spec, rules, records, moves(rng, records, base))


def moves(rng: random.Random, records: dict[int, list[dict]], now: int, *, idle: bool = True) -> list[Move]:
    """Random batches of all records and their readers. ``idle``: whether partitions may be idle, at random."""

    def some(p: int) -> int:
        return rng.randrange(left[p] + 1) if rng.random() < 0.5 else left[p]

    made = []
    left = {p: len(r) for p, r in records.items()}
    while any(left.values()) or (idle and rng.random() < 0.3):
        mine = frozenset(p for p in records if rng.random() < 0.7) or frozenset(records)
        cut = {p: some(p) if p in mine else 0 for p in left}
        fails = {p: some(p) for p in mine} if rng.random() < 0.15 else None
        for p in left:
            left[p] -= cut[p]
        now += rng.randrange(12) * SECOND
        asleep = frozenset(p for p in records if idle and rng.random() < 0.35)
        made.append(Move(cut, mine, asleep, now, rng.random() < 0.4, fails))
    return made


class Warehouse:
    """Window rows in memory; checks every write."""

    def __init__(self) -> None:
        self.rows: dict[tuple, tuple] = {}
        self.results: set[tuple] = set()
        # What a consumer of `sales.windows` keeps of sessions: the newest sums of each that was not taken back.
        self.consumed: dict[tuple, tuple] = {}
        self.merged = 0

    def stored(self, grouping: Grouping, deltas: pl.DataFrame) -> pl.DataFrame:
        """Rows that a delta is for, and all that are not final: more than are due, which must not matter."""
        touched = {(grouping.name, *key) for key in deltas.select(totals.WINDOW_KEY).iter_rows()}
        mine = [(key, r) for key, r in self.rows.items() if key[0] == grouping.name]
        rows = [r[1:] for key, r in mine if r[-1] != "final" or (key in touched and not grouping.is_session)]
        return pl.DataFrame(rows, schema=grouping.rows, orient="row")

    def apply(self, grouping: Grouping, update: lifecycle.WindowUpdate) -> None:
        for row in ((grouping.name, *row) for row in update.rows.iter_rows()):
            before = self.rows.get(row[:4])
            assert before is None or before[-1] != "final", "a final row was written again"
            revised = before is not None and before[-1] == "fired" and row[4] != before[4]
            assert row[-2] == (0 if before is None else before[-2]) + revised, "a revision too many or too few"
            self.rows[row[:4]] = row
        for row in ((grouping.name, *row) for row in update.results.iter_rows()):
            key = (*row[:4], row[-2], row[-1])
            assert key not in self.results, "a result was published twice"
            self.results.add(key)

    def apply_sessions(self, grouping: Grouping, update: lifecycle.WindowUpdate) -> None:
        """As :meth:`apply`. A result has the revision behind the last one of its session."""
        for key in ((grouping.name, *key) for key in update.gone.select(totals.WINDOW_KEY).iter_rows()):
            assert self.rows.pop(key)[-1] != "final", "a final session disappears"
        for row in ((grouping.name, *row) for row in update.rows.iter_rows()):
            assert row[:4] not in self.rows or self.rows[row[:4]][-1] != "final", "a final session was written again"
            self.rows[row[:4]] = row
        for row in ((grouping.name, *row) for row in update.results.iter_rows()):
            key, revision, state = row[:4], row[-2], row[-1]
            assert (*key, revision, "merged") not in self.results, "a session that was taken back comes again"
            assert revision == 0 or (*key, revision - 1, "fired") in self.results, "a revision is missing"
            assert (*key, revision, state) not in self.results, "a result was published twice"
            self.results.add((*key, revision, state))
            if state == "merged":
                assert not any(row[4:11]), "a session that is taken back has sums"
                assert row[11] == row[2]
                del self.consumed[key]
                self.merged += 1
            else:
                self.consumed[key] = row
        names = {key: row for key, row in self.rows.items() if key[0] == grouping.name}
        published = {key for key, row in names.items() if row[-1] != "open" or row[-2] > 0}
        consumed = {key: row for key, row in self.consumed.items() if key[0] == grouping.name}
        assert consumed.keys() == published, "a consumer has other sessions"
        for key, row in consumed.items():
            assert names[key][-1] == "open" or names[key] == row, "a consumer has other sums"


class Identities:
    """Held identities: the stored chunks, as in `sale_identities`, and those in the memory of each owner."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self.stored: dict[int, bytes] = {}
        self.memory: dict[int, duplicates.Held] = dict.fromkeys(partitions, ())
        self.most = 0

    def restart(self, partitions: Iterable[int]) -> None:
        for p in partitions:
            found = tuple(replace(c, rows=None) for c in self.memory[p])
            self.memory[p] = duplicates.with_rows(found, self._rows(duplicates.newest(found)))

    def gather(self, p: int, rows: pl.DataFrame) -> duplicates.Held:
        needed = duplicates.needed(self.memory[p], rows["transaction_id"])
        return duplicates.with_rows(self.memory[p], self._rows(needed))

    def save(self, did: step.Step) -> None:
        for p, held in did.held.items():
            stored = []
            for chunk in held:
                number = len(self.stored) if chunk.stored is None else chunk.stored
                if chunk.rows is not None:
                    self.stored[number] = duplicates.as_bytes(chunk.rows)
                stored.append(replace(chunk, stored=number))
            self.memory[p] = duplicates.newest_in_memory(tuple(stored))
            self.most = max(self.most, len(held))

    def _rows(self, numbers: Iterable[int]) -> dict[int, pl.DataFrame]:
        return {n: duplicates.from_bytes(self.stored[n]) for n in numbers}


def aggregate(run: Feed, recorded: Iterable[Rise] = ()) -> tuple[Outcome, Warehouse, list[Rise]]:
    """Run the pure part. ``recorded``: rises of an earlier run, which this one applies from their offsets on."""
    out, warehouse = Outcome(), Warehouse()
    rises: list[Rise] = []
    further = (*(FURTHER if run.rules.further else ()), *(SESSIONS if run.rules.sessions else ()))
    entries = Declarations((*USUAL.aggregations, *further))
    rules = step.Rules(parse(run.windows), run.rules.delay, run.rules.lateness, entries)
    identities = Identities(run.records)
    to_come = {p: [r for r in recorded if r.partition == p] for p in run.records}
    marks: dict[int, int | None] = dict.fromkeys(run.records)
    stream = Stream()
    done = dict.fromkeys(run.records, 0)
    counted: set[tuple[int, int]] = set()

    def batch_of(cut: dict[int, int], mine: Iterable[int]) -> dict[int, step.PartitionBatch]:
        made = {}
        for p in mine:
            start, end = next_offset(run, p, done[p]), next_offset(run, p, done[p] + cut[p])
            rows = pl.DataFrame(run.records[p][done[p] : done[p] + cut[p]], schema=DTYPES)
            made[p] = step.PartitionBatch(start, end, rows, tuple(r for r in to_come[p] if r.next_offset <= end))
        return made

    def stepped(
        move: Move, cut: dict[int, int], marks: dict[int, int | None], stream: Stream
    ) -> tuple[dict[int, step.PartitionBatch], step.Step]:
        batch = batch_of(cut, move.mine)
        held = {p: identities.gather(p, b.rows) for p, b in batch.items()}
        return batch, step.step(batch, step.StreamState(marks, move.idle, stream, held), move.now, rules)

    for move in run.moves:
        if move.restarts:
            identities.restart(move.mine)

        if move.fails is not None:
            stepped(move, move.fails, marks, stream)
        batch, did = stepped(move, move.cut, marks, stream)
        for g in rules.groupings:
            stored, deltas = warehouse.stored(g, did.deltas[g.name]), did.deltas[g.name]
            mark = did.stream.watermark
            if g.is_session:
                warehouse.apply_sessions(g, sessions.update_sessions(stored, deltas, mark, rules.lateness))
            else:
                warehouse.apply(g, lifecycle.update_windows(stored, deltas, mark, rules.lateness))
        identities.save(did)
        for p, read in batch.items():
            done[p] += move.cut[p]
            to_come[p] = [r for r in to_come[p] if r not in read.recorded_rises]
        if did.sales.height:
            marked = did.sales.select("partition", "offset", "late").rows()
            counted |= {(p, o) for p, o, _ in marked}
            out.late |= {(p, o) for p, o, late in marked if late}
        out.stream.append(did.stream.watermark)
        out.rises += [(r.partition, r.next_offset, r.watermark) for r in did.rises]
        rises += did.rises
        marks, stream = {**marks, **did.watermarks}, did.stream
    assert identities.most <= duplicates.MOST_CHUNKS + 1, "identities in too many chunks"
    out.dropped = {(p, r["offset"]) for p, rs in run.records.items() for r in rs} - counted
    out.rows = {key: (*row[4:11], row[-1]) for key, row in warehouse.rows.items()}
    out.ends = {key: row[11] for key, row in warehouse.rows.items() if len(row) > 13}
    return out, warehouse, rises


def disagreements(seeds: range, *, with_sessions: bool = False) -> list[str]:
    """What is wrong with the runs of these seeds, or with the warehouses that are rebuilt from their topics.

    ``with_sessions``: with SESSIONS; then some of the runs must merge sessions that were published.
    """
    merged = 0
    wrong = []
    usual = duplicates.LARGE, duplicates.MOST_CHUNKS, duplicates.IN_MEMORY
    for seed in seeds:
        # Half of them with so few identities in a chunk and in memory that some are read from Postgres again.
        duplicates.LARGE, duplicates.MOST_CHUNKS, duplicates.IN_MEMORY = (4, 3, 5) if seed % 2 else usual
        run = feed(seed, with_sessions=with_sessions)
        outcome, warehouse, rises = aggregate(run)
        merged += warehouse.merged
        if outcome != oracle(run):
            wrong.append(f"seed {seed}: differs from the oracle")
        marks = [w for w in outcome.stream if w is not None]
        if marks != sorted(marks):
            wrong.append(f"seed {seed}: the watermark went back")
        final = {key[:4] for key in warehouse.results if key[-1] == "final"}
        if final != {key for key, row in outcome.rows.items() if row[-1] == "final"}:
            wrong.append(f"seed {seed}: final rows and final results differ")
        if seed % REBUILT == 0:
            cuts = moves(random.Random(seed), run.records, 0, idle=False)
            again, _, _ = aggregate(Feed(run.windows, run.rules, run.records, cuts), rises)
            if (again.late, again.dropped, sums(again)) != (outcome.late, outcome.dropped, sums(outcome)):
                wrong.append(f"seed {seed}: a rebuild that applies the recorded rises differs")
    if with_sessions and not merged:
        wrong.append("no session that was published became part of another, so nothing was said of that")
    return wrong


def sums(outcome: Outcome) -> dict[tuple, tuple]:
    """The rows without their states."""
    return {key: row[:-1] for key, row in outcome.rows.items()}
