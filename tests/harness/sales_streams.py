"""Random streams of sales, run through the aggregator's pure part and through the oracle; for test_aggregator_step."""

import random
from collections.abc import Iterable

import polars as pl

from services.aggregator import duplicates, lifecycle, step, totals
from services.aggregator.watermark import Rise, Stream
from services.aggregator.windows import parse
from tests.harness.sales_oracle import SECOND, Feed, Move, Outcome, Rules, next_offset, oracle

PARTITIONS = 3
#: One of so many runs is made anew from its topics.
REBUILT = 4
DTYPES = {
    "offset": pl.Int64,
    "timestamp": pl.Int64,
    "transaction_id": pl.Int64,
    "store_id": pl.Int32,
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


def feed(seed: int) -> Feed:
    rng = random.Random(seed)
    spec = rng.choice(list(SPECS))
    kinds = tuple((size * SECOND, slide * SECOND) for size, slide in SPECS[spec])
    rules = Rules(kinds, rng.choice((0, 3, 10)) * SECOND, rng.choice((0, 5, 20)) * SECOND)
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
    """Random cuts of all records, and who reads them. ``idle``: partitions may be, at random."""

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
    """Window rows in memory, with the checks that only whoever sees every write can make."""

    def __init__(self) -> None:
        self.rows: dict[tuple, tuple] = {}
        self.results: set[tuple] = set()

    def stored(self, deltas: pl.DataFrame) -> pl.DataFrame:
        """Rows that a delta is for, and all that are not final: more than may be due, which must not matter."""
        touched = set(deltas.select(totals.WINDOW_KEY).iter_rows())
        rows = [r for key, r in self.rows.items() if r[-1] != "final" or key in touched]
        return pl.DataFrame(rows, schema=lifecycle.ROWS, orient="row")

    def apply(self, settled: lifecycle.Settled) -> None:
        for row in settled.rows.iter_rows():
            before = self.rows.get(row[:4])
            assert before is None or before[-1] != "final", "a final row was written again"
            revised = before is not None and before[-1] == "fired" and row[4] != before[4]
            assert row[-2] == (0 if before is None else before[-2]) + revised, "a revision that is none, or is missing"
            self.rows[row[:4]] = row
        for row in settled.results.iter_rows():
            key = (*row[:4], row[-2], row[-1])
            assert key not in self.results, "a result was told twice"
            self.results.add(key)


class Identities:
    """What is stored of the sales held, as `sale_identities` has it, and what each owner has in memory."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self.rows: dict[int, list[tuple[int, bytes]]] = {p: [] for p in partitions}
        self.memory: dict[int, duplicates.Held] = dict.fromkeys(self.rows, ())

    def restart(self, partitions: Iterable[int]) -> None:
        for p in partitions:
            self.memory[p] = duplicates.load(self.rows[p])

    def save(self, did: step.Step) -> None:
        for p, chunk in did.chunks.items():
            self.rows[p].append((chunk.expires, duplicates.as_bytes(chunk.rows)))
        for p, mark in did.watermarks.items():
            self.rows[p] = [row for row in self.rows[p] if mark is None or row[0] > mark]
        self.memory.update(did.held)


def aggregate(run: Feed, recorded: Iterable[Rise] = ()) -> tuple[Outcome, Warehouse, list[Rise]]:
    """``recorded``: rises of an earlier run, which this one applies from their offsets on."""
    out, warehouse = Outcome(), Warehouse()
    rises: list[Rise] = []
    rules = step.Rules(parse(run.windows), run.rules.delay, run.rules.lateness)
    identities = Identities(run.records)
    to_come = {p: [r for r in recorded if r.partition == p] for p in run.records}
    marks: dict[int, int | None] = dict.fromkeys(run.records)
    stream = Stream()
    done = dict.fromkeys(run.records, 0)
    told: set[tuple[int, int]] = set()

    def slices(cut: dict[int, int], mine: Iterable[int]) -> dict[int, step.Slice]:
        made = {}
        for p in mine:
            start, end = next_offset(run, p, done[p]), next_offset(run, p, done[p] + cut[p])
            rows = pl.DataFrame(run.records[p][done[p] : done[p] + cut[p]], schema=DTYPES)
            made[p] = step.Slice(start, end, rows, tuple(r for r in to_come[p] if r.next_offset <= end))
        return made

    for move in run.moves:
        if move.restarts:
            identities.restart(move.mine)
        held = {p: identities.memory[p] for p in move.mine}
        state = step.State(marks, move.idle, stream, held)
        if move.fails is not None:
            step.step(slices(move.fails, move.mine), state, move.now, rules)
        parts = slices(move.cut, move.mine)
        did = step.step(parts, state, move.now, rules)
        stored = warehouse.stored(did.deltas)
        warehouse.apply(lifecycle.settle(stored, did.deltas, did.stream.watermark, rules.lateness))
        identities.save(did)
        for p, part in parts.items():
            done[p] += move.cut[p]
            to_come[p] = [r for r in to_come[p] if r not in part.replayed]
        if did.sales.height:
            marked = did.sales.select("partition", "offset", "late").rows()
            told |= {(p, o) for p, o, _ in marked}
            out.late |= {(p, o) for p, o, late in marked if late}
        out.stream.append(did.stream.watermark)
        out.rises += [(r.partition, r.next_offset, r.watermark) for r in did.rises]
        rises += did.rises
        marks, stream = {**marks, **did.watermarks}, did.stream
    out.dropped = {(p, r["offset"]) for p, rs in run.records.items() for r in rs} - told
    out.rows = {key: (*row[4:11], row[-1]) for key, row in warehouse.rows.items()}
    return out, warehouse, rises


def disagreements(seeds: range) -> list[str]:
    """What is wrong with the run of any of these seeds, or with its warehouse made anew from the topics."""
    wrong = []
    for seed in seeds:
        run = feed(seed)
        said, warehouse, rises = aggregate(run)
        if said != oracle(run):
            wrong.append(f"seed {seed}: not what the oracle says")
        marks = [w for w in said.stream if w is not None]
        if marks != sorted(marks):
            wrong.append(f"seed {seed}: the watermark went back")
        final = {key[:4] for key in warehouse.results if key[-1] == "final"}
        if final != {key for key, row in said.rows.items() if row[-1] == "final"}:
            wrong.append(f"seed {seed}: what is final was not told so")
        if seed % REBUILT == 0:
            cuts = moves(random.Random(seed), run.records, 0, idle=False)
            again, _, _ = aggregate(Feed(run.windows, run.rules, run.records, cuts), rises)
            if (again.late, again.dropped, sums(again)) != (said.late, said.dropped, sums(said)):
                wrong.append(f"seed {seed}: a rebuild that applies the recorded rises comes to something else")
    return wrong


def sums(outcome: Outcome) -> dict[tuple, tuple]:
    """The rows without their states."""
    return {key: row[:-1] for key, row in outcome.rows.items()}
