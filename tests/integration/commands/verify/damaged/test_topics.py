"""`verify` names every damage to a record of a derived topic; it is made to the record on its way to the reader."""

from retail_stream.entities import Entity
from retail_stream.kafka.reading import read_to_end
from retail_stream.topics import Result, clean, dlq
from tests.integration.commands.verify import damages, families, streams
from tests.integration.commands.verify.damaged.checking import checked, require_named
from tests.integration.commands.verify.damages import Altered, reading_through
from tests.integration.commands.verify.expectations import (
    DERIVED,
    HARMLESS_IN_TOPICS,
    Damage,
    lines_of,
    shown,
)


def test_every_header_of_every_derived_topic_is_compared(done):
    change, made = Altered(), []
    for topic in DERIVED:
        records = list(read_to_end(done, topic))
        for name, m, instead in damages.header_damages(records):
            change.records[damages.place(m)] = instead
            if not {(topic, name), ("*", name)} & HARMLESS_IN_TOPICS.keys():
                made.append(Damage(f"{topic}: {name}", lines_of(topic), list(shown(topic, m))))
    assert len(made) >= families.HEADERS.at_least
    with reading_through(change):
        checks = checked(done)
    # Of a record that names rules which never existed it cannot be known whether they reject it, nor what it raises.
    judged = ["fact_sales", "sale_identities", "partition_watermarks", "sales_by_window", "sales_by_product_window"]
    require_named(checks, made, [*judged, "late_sales", *(line for topic in DERIVED for line in lines_of(topic))])


def test_every_sum_of_every_revision_is_compared(done):
    """All fields of results of windows, the newest and those that others replaced, but the time of publication."""
    results = list(read_to_end(done, Result.WINDOWS.value))
    change, made = Altered(), []
    last = {streams.window_key(m): streams.window(m)["revision"] for m in results}
    revised = [m for m in results if streams.window(m)["revision"] < last[streams.window_key(m)]]
    newest = [m for m in results if streams.window(m)["revision"] == last[streams.window_key(m)]]
    for records in (revised, newest):
        for name, m, instead in streams.window_damages(records):
            change.records[damages.place(m)] = instead
            r = streams.window(m)
            number = f"id {r['store_id'] or r['product_id']} revision {r['revision']}"
            made.append(
                Damage(f"{name}", ["sales.windows", "sales.windows, revisions"], [number, number.partition(" rev")[0]])
            )
    assert len(made) >= families.REVISIONS.at_least
    with reading_through(change):
        checks = checked(done)
    require_named(checks, made, ["outbox", "window_revisions"])


def test_records_that_were_published_again_or_never_are_named(done):
    """A result again under another warehouse's id, a rise of the year 2030, and a good sale as a dead letter."""
    change = Altered()
    first, *_, again = (m for m in read_to_end(done, Result.WINDOWS.value) if m.partition() == 0)
    foreign = [("outbox.id", b"00000000-0000-0000-0000-000000000000/1")]
    change.records[damages.place(again)] = damages.altered(again, value=first.value(), key=first.key(), headers=foreign)
    *_, rise = read_to_end(done, Result.WATERMARKS.value)
    change.records[damages.place(rise)] = damages.altered(rise, value=streams.risen(rise, 2030), headers=foreign)
    good = next(m for m in read_to_end(done, clean(Entity.SALES)) if m.partition() == 0)
    letter = next(m for m in read_to_end(done, dlq(Entity.SALES)) if m.partition() == 0)
    source = int.from_bytes(dict(good.headers() or ())["source.offset"] or b"", "big")
    other = {"__connect.errors.offset": str(source).encode(), "rules.version": b"never"}
    headers = [(n, other.get(n, v)) for n, v in letter.headers() or ()]
    change.records[damages.place(letter)] = damages.altered(letter, headers=headers)
    with reading_through(change):
        checks = checked(done)
    made = [
        Damage("a result again", ["outbox"], [f"sales.windows/0@{again.offset()}: is of the warehouse 00000000"]),
        Damage("and not the right one", ["sales.windows"], [": missing"]),
        Damage("a rise of 2030", ["sales.watermarks"], ["is ahead of its own time"]),
        Damage("a good sale", ["sales.dlq"], [f"sales.raw/0@{source}: breaks no rule, and is in sales.dlq"]),
        Damage("rules that never were", ["cleaner.rules"], ["names the rules.version never"]),
    ]
    # What would be late by that rise is so no more.
    late = ["partition_watermarks", "sales_by_window", "sales_by_product_window", "sales.late", "late_sales"]
    late += ["sale_identities", "sales.windows, revisions", "stream_watermark", "window_revisions", "dead_letters"]
    require_named(checks, made, late)
