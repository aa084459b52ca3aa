"""Windows the slow way: one sale, one window at a time, in plain Python integers.."""

from dataclasses import dataclass, field

from services.aggregator.step import Rules
from services.aggregator.windows import Window


@dataclass
class Outcome:
    """What both the oracle and the aggregator must agree on."""

    rows: dict[tuple, tuple] = field(default_factory=dict)  # (kind, size, start, id) → measures, state
    late: set[tuple[int, int]] = field(default_factory=set)
    dropped: set[tuple[int, int]] = field(default_factory=set)
    stream: list[int | None] = field(default_factory=list)
    rises: list[tuple[int, int, int]] = field(default_factory=list)


def top(*times: int | None) -> int | None:
    return max((t for t in times if t is not None), default=None)


def count(r: dict, p: int, mark: int | None, rules: Rules, seen: set, sums: dict, out: Outcome) -> None:
    starts = [(w.size, s) for w in rules.windows for s in brute_starts(w, r["event_time"])]
    identity = (r["transaction_id"], r["event_time"], r["store_id"])
    held = mark is None or max(sum(s) for s in starts) + rules.lateness > mark
    if held and identity in seen:
        out.dropped.add((p, r["offset"]))
        return
    seen.add(identity)
    for size, start in starts:
        if mark is not None and mark >= start + size + rules.lateness:
            out.late.add((p, r["offset"]))
            continue
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
        for kind, number in (("store", r["store_id"]), ("product", r["product_id"])):
            row = sums.setdefault((kind, size, start, number), [0] * 7)
            row[:] = [a + b for a, b in zip(row, add, strict=True)]


def brute_starts(w: Window, time: int) -> list[int]:
    """Every multiple of the slide whose window contains the time, found by looking at each nearby."""
    near = round(time / w.slide)
    return [s for i in range(-w.panes - 2, 3) if (s := (near + i) * w.slide) <= time < s + w.size]
