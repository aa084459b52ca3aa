"""Whatever the order, batching and repetition of events: the same versions as an oracle that sorts everything first.

The store below keeps tuples and answers :class:`Neighbours` as Postgres does. A few thousand seeds run side by side,
each on keys of its own, so that one call of the merge decides a batch of every seed.
"""

import random
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import replace

import polars as pl
import pytest

from retail_stream.entities import Entity
from services.scd_merger.dimensions import Dimension, Kind
from services.scd_merger.merge import Neighbours, Plan, merge
from tests.harness.scd_oracle import Event, Version, batches, delete, history, last_write_wins, oracle, upsert

DIMENSION = Dimension(
    Entity.PRODUCTS, "product_id", "last_update_time", {"name": Kind.TEXT, "price": Kind.MONEY}, "product_sk"
)
#: The same, but no history is kept of prices.
PRICELESS = replace(DIMENSION, untracked=("price",))


def frame(events: Iterable[Event]) -> pl.DataFrame:
    return pl.DataFrame([(*event, None) for event in events], schema=DIMENSION.change_schema, orient="row")


class Store:
    """What Postgres does, over dicts: per key the sorted times of changes and of version starts."""

    def __init__(self, dimension: Dimension = DIMENSION) -> None:
        self.dimension = dimension
        self.changes: dict[int, dict[int, Event]] = {}
        self.versions: dict[int, dict[int, Version]] = {}

    def gather(self, changes: pl.DataFrame) -> Neighbours:
        near_changes: list[Event] = []
        near_versions: list[tuple] = []
        probes: dict[int, set[int]] = {}
        for key, time in changes.select("product_id", "last_update_time").iter_rows():
            probes.setdefault(key, set()).add(time)
        for key, times in probes.items():
            history, versions = self.changes.get(key, {}), self.versions.get(key, {})
            moments, starts = sorted(history), sorted(versions)
            for time in times:
                near_changes += [history[t] for t in _around(moments, time)]
                near_versions += [versions[t] for t in _around(starts, time)]
        span = {n: pl.Int64() for n in ("product_id", "valid_from", "valid_to")}
        shown = [*span, *self.dimension.untracked]
        span |= self.dimension.dtypes(self.dimension.attributes)
        return Neighbours(frame(near_changes), pl.DataFrame(near_versions, schema=span, orient="row").select(shown))

    def apply(self, plan: Plan) -> None:
        for key, start, _ in plan.vanished.iter_rows():
            del self.versions[key][start]
        for key, start, end in (*plan.shrunk.iter_rows(), *plan.extended.iter_rows()):
            self.versions[key][start] = (key, start, end, *self.versions[key][start][3:])
        for key, start, *attributes in plan.rewritten.iter_rows():
            self.versions[key][start] = (*self.versions[key][start][:3], *attributes)
        for key, start, price in plan.refreshed.iter_rows() if self.dimension.untracked else ():
            assert self.versions[key][start][4] != price
            self.versions[key][start] = (*self.versions[key][start][:4], price)
        for key, *attributes, start, end in plan.opened.iter_rows():
            assert start not in self.versions.setdefault(key, {})
            self.versions[key][start] = (key, start, end, *attributes)
        for *event, _ in plan.added.iter_rows():
            assert event[1] not in self.changes.setdefault(event[0], {})
            self.changes[event[0]][event[1]] = tuple(event)  # type: ignore[assignment]
        for *event, _ in plan.replaced.iter_rows():
            assert event[1] in self.changes[event[0]]
            self.changes[event[0]][event[1]] = tuple(event)  # type: ignore[assignment]

    def take(self, batch: Iterable[Event]) -> Plan:
        changes = frame(batch)
        plan = merge(self.dimension, changes, self.gather(changes))
        self.apply(plan)
        return plan

    def table(self, keys: Iterable[int]) -> list[Version]:
        return [self.versions[k][t] for k in sorted(keys) if k in self.versions for t in sorted(self.versions[k])]


def _around(times: list[int], time: int) -> list[int]:
    at = bisect_left(times, time)
    return times[max(at - 1, 0) : at + 2]


@pytest.mark.parametrize("dimension", [DIMENSION, PRICELESS], ids=["all tracked", "price untracked"])
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, 4))])
def test_any_order_and_batching_gives_the_oracles_table(part: int, dimension: Dimension) -> None:
    seeds = range(part * 625, (part + 1) * 625)
    store = Store(dimension)
    streams: dict[int, tuple[list[Event], list[list[Event]]]] = {}
    for seed in seeds:
        rng = random.Random(seed)
        events = history(rng, seed * 5)
        streams[seed] = events, batches(rng, events, 8)
    for i in range(8):
        store.take(event for _, cut in streams.values() for event in cut[i])
    for seed, (events, _) in streams.items():
        keys = range(seed * 5, seed * 5 + 5)
        assert store.table(keys) == oracle(events, "price" not in dimension.untracked), f"seed {seed}"
        assert _current(store.table(keys)) == last_write_wins(events), f"seed {seed}"


def _current(versions: list[Version]) -> dict[int, tuple]:
    return {key: tuple(attributes) for key, _, end, *attributes in versions if end is None}


#        10   11   12        20
#   a    |---------)                 delete@12 ends it
#   b                        |----
def test_an_upsert_after_a_delete_resurrects_nothing() -> None:
    store = Store()
    store.take([upsert(10, "a"), upsert(11, "a"), delete(12)])
    store.take([upsert(20, "b")])
    assert store.table([1]) == [(1, 10, 12, "a", 1.0), (1, 20, None, "b", 1.0)]


#        1    2    3
#   A    |-------------       two equal changes are one version ...
#   A    |----)    |----      ... until a late one splits it
#   B         |----)
def test_a_late_change_splits_a_run_of_equal_ones() -> None:
    store = Store()
    store.take([upsert(1, "A"), upsert(3, "A")])
    assert store.table([1]) == [(1, 1, None, "A", 1.0)]
    store.take([upsert(2, "B")])
    assert store.table([1]) == [(1, 1, 2, "A", 1.0), (1, 2, 3, "B", 1.0), (1, 3, None, "A", 1.0)]


#        3    5
#        |----)    the delete was there first, and is remembered
def test_a_delete_of_an_unknown_key_ends_an_older_upsert_that_comes_later() -> None:
    store = Store()
    assert store.take([delete(5)]).opened.is_empty()
    store.take([upsert(3, "a")])
    assert store.table([1]) == [(1, 3, 5, "a", 1.0)]


def test_a_key_can_be_deleted_and_inserted_again() -> None:
    store = Store()
    for event in (upsert(1, "a"), delete(2), upsert(3, "a"), delete(4)):
        store.take([event])
    assert store.table([1]) == [(1, 1, 2, "a", 1.0), (1, 3, 4, "a", 1.0)]


def test_many_changes_of_one_key_in_one_batch_are_as_many_versions() -> None:
    store = Store()
    store.take(upsert(time, f"v{time}") for time in range(50, 0, -1))
    assert [v[1:4] for v in store.table([1])] == [(t, t + 1 if t < 50 else None, f"v{t}") for t in range(1, 51)]


def test_of_two_changes_at_one_moment_the_larger_wins_in_either_order() -> None:
    for events in ([upsert(1, "a"), upsert(1, "é")], [upsert(1, "é"), upsert(1, "a")]):
        store = Store()
        for event in events:
            store.take([event])
        assert store.table([1]) == [(1, 1, None, "é", 1.0)]


def test_at_one_moment_a_delete_beats_an_upsert() -> None:
    store = Store()
    store.take([upsert(1, "a"), upsert(2, "b")])
    plan = store.take([delete(2)])
    assert store.table([1]) == [(1, 1, 2, "a", 1.0)]
    assert plan.vanished.rows() == [(1, 2, None)]


#        1    2    3
#   a    |----)              b@2 began a version ...
#   b         |---------
#   a    |----)              ... and c@2 takes its place: same version, other attributes
#   c         |---------
def test_a_change_that_wins_its_moment_rewrites_the_version_in_place() -> None:
    store = Store()
    store.take([upsert(1, "a"), upsert(2, "b")])
    plan = store.take([upsert(2, "c")])
    assert plan.rewritten.rows() == [(1, 2, "c", 1.0)]
    assert plan.opened.is_empty()
    assert plan.vanished.is_empty()


#        1         3
#   b              |----     began at 3 ...
#   b    |--------------     ... and now has an earlier twin
def test_an_earlier_twin_takes_over_the_version_from_its_own_time() -> None:
    store = Store()
    store.take([upsert(3, "b")])
    store.take([upsert(1, "b")])
    assert store.table([1]) == [(1, 1, None, "b", 1.0)]


def test_a_repeat_changes_nothing() -> None:
    store = Store()
    events = [upsert(1, "a"), upsert(2, "b"), delete(3)]
    store.take(events)
    plan = store.take(events)
    assert all(frame.is_empty() for frame in vars(plan).values())


#        1    2    3    4
#   a    |---------)         b@3 ends it
#   b              |----
#   1.0  2.0  3.0  4.0       a version has the price of its last change
def test_an_untracked_attribute_is_updated_in_place() -> None:
    store = Store(PRICELESS)
    store.take([upsert(1, "a", price=1.0), upsert(3, "b", price=3.0)])
    plan = store.take([upsert(2, "a", price=2.0), upsert(4, "b", price=4.0)])
    assert store.table([1]) == [(1, 1, 3, "a", 2.0), (1, 3, None, "b", 4.0)]
    assert sorted(plan.refreshed.rows()) == [(1, 1, 2.0), (1, 3, 4.0)]
    assert plan.opened.is_empty()


#        1    2    3    4
#   a    |-------------------     price 3.0, of a@3
#   b         |----)              a split leaves each part the price of its own last change
def test_both_parts_of_a_split_version_keep_their_own_last_untracked_values() -> None:
    store = Store(PRICELESS)
    store.take([upsert(1, "a", price=1.0), upsert(3, "a", price=3.0), upsert(4, "a", price=4.0)])
    store.take([upsert(2, "b", price=2.0)])
    assert store.table([1]) == [(1, 1, 2, "a", 1.0), (1, 2, 3, "b", 2.0), (1, 3, None, "a", 4.0)]


def test_a_batch_reads_and_writes_no_more_for_a_long_history() -> None:
    store = Store()
    store.take(upsert(time, f"v{time}") for time in range(0, 2000, 2))
    batch = frame([upsert(1001, "late")])
    stored = store.gather(batch)
    assert stored.changes.height <= 3
    assert stored.versions.height <= 3
    plan = merge(DIMENSION, batch, stored)
    assert sum(frame.height for frame in vars(plan).values()) == 3  # one shrunk, one opened, one change added
