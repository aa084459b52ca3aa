"""Random streams of sales, run through the aggregator's pure part and through the oracle; for test_aggregator_step."""

import random
from dataclasses import dataclass

import polars as pl

from services.aggregator import lifecycle, step, totals, watermark
from services.aggregator.watermark import Rise, Stream
from services.aggregator.windows import SECOND, parse
from tests.unit.sales_oracle import Outcome, count, top

PARTITIONS = 3
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
SPECS = ("10s", "10s,1m", "30s/10s", "7s,20s/5s,1m", "1m/20s")


@dataclass
class Feed:
    """What one random run gives the aggregator: per partition records, and when which partition was idle."""

    rules: step.Rules
    records: dict[int, list[dict]]
    moves: list[tuple[dict[int, int], frozenset[int], int]]  # per step: records per partition, idle, now


def feed(seed: int) -> Feed:
    rng = random.Random(seed)
    rules = step.Rules(parse(rng.choice(SPECS)), rng.choice((0, 3, 10)) * SECOND, rng.choice((0, 5, 20)) * SECOND)
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
                "event_time": base + i * SECOND - back + ahead,
                "product_id": rng.randrange(3),
                "quantity": rng.randrange(-3, 4),
                "unit_price": 1.5,
                "total_amount": rng.randrange(-(10**6), 10**6) / 1000,
                "discount_applied": rng.randrange(1000) / 200,
                "tax_amount": rng.uniform(-5, 5),
            }
        mine.append({**record, "offset": len(mine) * 2})
    moves = []
    left = {p: len(r) for p, r in records.items()}
    now = base
    while any(left.values()) or rng.random() < 0.3:
        cut = {p: rng.randrange(n + 1) if rng.random() < 0.5 else n for p, n in left.items()}
        for p in left:
            left[p] -= cut[p]
        now += rng.randrange(12) * SECOND
        idle = frozenset(p for p in records if rng.random() < 0.35)
        moves.append((cut, idle, now))
    return Feed(rules, records, moves)


def oracle(run: Feed) -> Outcome:
    """Record by record, window by window, in plain Python; only the watermarks' moves need the steps."""
    out, rules = Outcome(), run.rules
    marks: dict[int, int | None] = dict.fromkeys(run.records)
    done = dict.fromkeys(run.records, 0)
    seen: dict[int, set] = {p: set() for p in run.records}
    sums: dict[tuple, list[int]] = {}
    stream, went_on = None, None
    for cut, idle, now in run.moves:
        for p, n in cut.items():
            if (n or p not in idle) and stream is not None and (marks[p] is None or marks[p] < stream):
                marks[p] = stream
                out.rises.append((p, next_offset(run, p, done[p]), stream))
            for r in run.records[p][done[p] : done[p] + n]:
                count(r, p, marks[p], rules, seen[p], sums, out)
                marks[p] = top(marks[p], min(r["event_time"], r["timestamp"]) - rules.delay)
            done[p] += n
        busy = [marks[p] for p in marks if p not in idle or cut[p]]
        if busy:
            if None not in busy:
                stream = top(stream, min(busy))
            went_on = None
        else:
            stream = top(stream, *marks.values())
            if stream is not None:
                if went_on is not None and 0 < now - went_on <= watermark.LONGEST_LOOK_AWAY:
                    stream += now - went_on
                went_on = now
        out.stream.append(stream)
    for key, measures in sums.items():
        end = key[1] + key[2]
        past = stream is not None and stream >= end
        over = stream is not None and stream >= end + rules.lateness
        out.rows[key] = (*measures, "final" if over else "fired" if past else "open")
    return out


def next_offset(run: Feed, p: int, done: int) -> int:
    return run.records[p][done - 1]["offset"] + 1 if done else 0


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


def aggregate(run: Feed, replayed: dict[int, list[Rise]] | None = None) -> tuple[Outcome, Warehouse, list[Rise]]:
    out, warehouse, recorded = Outcome(), Warehouse(), []
    state = step.State(dict.fromkeys(run.records), frozenset(), Stream(), dict.fromkeys(run.records, ()))
    done = dict.fromkeys(run.records, 0)
    told: set[tuple[int, int]] = set()
    for cut, idle, now in run.moves:
        slices = {}
        for p, n in cut.items():
            start, end = next_offset(run, p, done[p]), next_offset(run, p, done[p] + n)
            rows = pl.DataFrame(run.records[p][done[p] : done[p] + n], schema=DTYPES)
            mine = tuple(r for r in (replayed or {}).get(p, ()) if start <= r.next_offset <= end)
            slices[p] = step.Slice(start, end, rows, mine)
            done[p] += n
        state = step.State(state.watermarks, idle, state.stream, state.held)
        did = step.step(slices, state, now, run.rules)
        stored = warehouse.stored(did.deltas)
        warehouse.apply(lifecycle.settle(stored, did.deltas, did.stream.watermark, run.rules.lateness))
        if did.sales.height:
            marked = did.sales.select("partition", "offset", "late").rows()
            told |= {(p, o) for p, o, _ in marked}
            out.late |= {(p, o) for p, o, late in marked if late}
        out.stream.append(did.stream.watermark)
        out.rises += [(r.partition, r.next_offset, r.watermark) for r in did.rises]
        recorded += did.rises
        state = step.State({**state.watermarks, **did.watermarks}, idle, did.stream, did.held)
    out.dropped = {(p, r["offset"]) for p, rs in run.records.items() for r in rs} - told
    out.rows = {key: (*row[4:11], row[-1]) for key, row in warehouse.rows.items()}
    return out, warehouse, recorded


def disagreements(seeds: range) -> list[str]:
    """What is wrong with the run of any of these seeds."""
    wrong = []
    for seed in seeds:
        run = feed(seed)
        said, warehouse, _ = aggregate(run)
        if said != oracle(run):
            wrong.append(f"seed {seed}: not what the oracle says")
        marks = [w for w in said.stream if w is not None]
        if marks != sorted(marks):
            wrong.append(f"seed {seed}: the watermark went back")
        final = {key[:4] for key in warehouse.results if key[-1] == "final"}
        if final != {key for key, row in said.rows.items() if row[-1] == "final"}:
            wrong.append(f"seed {seed}: what is final was not told so")
    return wrong
