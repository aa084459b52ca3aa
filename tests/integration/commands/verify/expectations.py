"""What names each damage: the lines of the report, and words of their examples. What harms nothing, with the reason."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Message

from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.topics import Result, clean, dlq
from tests.integration.commands.verify import streams
from tests.integration.commands.verify.damages import Target


class Damage(NamedTuple):
    """A damage: what it is, the lines of which one names it, and words of which one is in an example there."""

    name: str
    lines: Sequence[str]
    words: Sequence[str]

    def is_named(self, wrong: Mapping[str, Sequence[str]]) -> bool:
        """Whether red lines with these examples name it."""
        return any(word in example for line in self.lines for example in wrong.get(line, ()) for word in self.words)


#: (table, column) → why another value there changes no result, now or later. ``*`` is any table.
HARMLESS = {
    ("*", "updated_at"): "says when a row was written; nothing is computed from it",
    ("partition_watermarks", "idle"): "the next owner of a partition begins with one that is not idle",
    ("partition_watermarks", "idle_until"): "as idle",
}
#: How far all is, and the settings: many lines see a damage there, so these columns have a test of their own.
STATE = {
    ("consumer_positions", "consumer_group"),
    ("consumer_positions", "topic"),
    ("consumer_positions", "partition"),
    ("partition_watermarks", "topic"),
    ("partition_watermarks", "partition"),
    ("stream_watermark", "topic"),
    ("stream_watermark", "watermark"),
    ("stored_settings", "name"),
    ("stored_settings", "value"),
    ("warehouse_id", "id"),
}
ABSENT = ("missing", "should not be there")
_IDENTITY = ("no such sale was counted", "its identity is not")
_OF_WINDOWS = ("window_size", "window_start", "store_id", "product_id")
#: (table, column) → lines, words; of other columns, the line of the table says that another value is expected.
SEEN = {
    **{(t, c): ([t], ABSENT) for t in ("sales_by_window", "sales_by_product_window") for c in _OF_WINDOWS},
    **{(t, "revision"): (["sales.windows"], ABSENT) for t in ("sales_by_window", "sales_by_product_window")},
    **{(f"dim_{e}", "valid_from"): ([f"dim_{e}"], ABSENT) for e in DIMENSIONS},
    **{(f"dim_{e}", f"{e.removesuffix('s')}_id"): ([f"dim_{e}"], ABSENT) for e in DIMENSIONS},
    **{(f"{e}_changes", f"{e.removesuffix('s')}_id"): ([f"{e}_changes"], ABSENT) for e in DIMENSIONS},
    **{(f"{e}_changes", "last_update_time"): ([f"{e}_changes"], ABSENT) for e in DIMENSIONS},
    **{("fact_sales", c): (["fact_sales"], ABSENT) for c in ("transaction_id", "event_time", "store_id")},
    **{("late_sales", c): (["late_sales"], ABSENT) for c in ("source_partition", "source_offset")},
    **{("replays", c): (["replays"], ABSENT) for c in ("consumer_group", "topic", "partition", "replay_of")},
    ("aggregations", "relation"): (["aggregations"], ABSENT),
    **{("window_revisions", c): (["window_revisions"], ABSENT) for c in ("kind", "id", "revision", *_OF_WINDOWS)},
    **{("dead_letters", c): (["dead_letters"], ABSENT) for c in ("entity", "partition", "offset")},
    ("topics_read", "topic"): (["topics_read"], ABSENT),
    ("sale_identities", "partition"): (["sale_identities"], _IDENTITY),
    ("sale_identities", "identities"): (["sale_identities"], ["which are not whole identities"]),
    ("fact_partitions", "first_day"): (["fact_partitions"], ["days expected"]),
    ("fact_partitions", "after_day"): (["fact_partitions"], ["days expected"]),
    ("fact_partitions", "partition"): (["fact_partitions"], ["has no row"]),
    ("fact_partitions", "name"): (["fact_partitions"], ["is attached as"]),
    ("partition_watermarks", "epoch"): (["consumer_positions"], ["epoch expected 1000"]),
    ("consumer_positions", "next_offset"): (["consumer_positions"], ["is not within the partition"]),
    ("consumer_positions", "epoch"): (["consumer_positions"], ["is not a positive number"]),
    ("stream_watermark", "advanced_at"): (["stream_watermark, its clock"], ["advanced_at is"]),
    ("alembic_version", "version_num"): (["tables as declared"], ["version of the tables expected"]),
}
#: Lines that follow from a damage to a table that they are compared with.
FOLLOWS = {
    "fact_sales": ["baskets"],
    "dim_customers": ["customer_places"],
    "dim_stores": ["store_places"],
    "sales_by_window": ["sales.windows", "sales.windows, revisions"],
    "sales_by_product_window": ["sales.windows", "sales.windows, revisions", "sales_by_category_window"],
    "partition_watermarks": ["stream_watermark"],
}
#: Table → the words by which a row that is gone is named.
GONE = {
    **{f"dim_{e}": ": missing" for e in DIMENSIONS},
    **{f"{e}_changes": ": missing" for e in DIMENSIONS},
    **dict.fromkeys(("fact_sales", "late_sales", "replays", "sales_by_window", "sales_by_product_window"), ": missing"),
    **dict.fromkeys(("window_revisions", "dead_letters"), ": missing"),
    "sale_identities": "its identity is not",
    "fact_partitions": "has no row",
    "stored_settings": "missing",
    "aggregations": ": missing",
}
#: The settings of the delay are the default ones, so nothing else is computed anew without them.
CHOSEN = {"stored_settings": "WHERE name = 'WATERMARK_DELAY_S'", "fact_partitions": "WHERE name LIKE '%2026_03'"}
#: Table → the columns of which the invented row has other values.
INVENTED_BY = {
    **{f"dim_{e}": [f"{e.removesuffix('s')}_id"] for e in DIMENSIONS},
    **{f"{e}_changes": [f"{e.removesuffix('s')}_id"] for e in DIMENSIONS},
    "fact_sales": ["transaction_id"],
    "late_sales": [],
    "window_revisions": ["id"],
    "dead_letters": ["offset"],
    "sales_by_window": ["store_id"],
    "sales_by_product_window": ["product_id"],
    "replays": ["replay_of"],
    "topics_read": ["topic"],
    "sale_identities": [],
}
#: View → the line about it.
VIEWS = {
    **{f"{e}_current": f"{e}_current" for e in DIMENSIONS},
    "sales_enriched": "sales_enriched",
    **{view: view for view in ("baskets", "customer_places", "store_places")},
    "sales_by_category_window": "sales_by_category_window",
    "consumer_positions": "consumer_positions, the view",
    "pipeline_state": "pipeline_state",
}
#: View → the columns by which its rows are compared.
KEYS_OF_VIEWS = {
    "sales_enriched": ("transaction_id", "event_time", "store_id"),
    "sales_by_category_window": ("window_size", "window_start", "category"),
    "consumer_positions": ("consumer_group", "topic", "partition"),
    **{f"{e}_current": (f"{e.removesuffix('s')}_sk",) for e in DIMENSIONS},
    "baskets": ("store_id", "customer_id", "event_time"),
    **{f"{one}_places": (f"{one}_sk",) for one in ("customer", "store")},
}
#: (topic or *, damage) → why no result depends on it.
HARMLESS_IN_TOPICS = {
    ("*", "header __connect.errors.exception.message changed"): "words of the cleaner's own, where no rule is named",
    ("sales.windows", "timestamp"): "the time of publication; a result is known by window, id and revision",
    ("sales.watermarks", "timestamp"): "as in sales.windows, unless the rise is ahead of it",
    ("sales.watermarks", "gone"): "shows where a result depends on the rise; partitions have passed it since",
}
#: The topics that a service writes.
DERIVED = [*map(clean, Entity), *map(dlq, Entity), Result.LATE.value, Result.WINDOWS.value, Result.WATERMARKS.value]


def of_column(target: Target) -> Damage:
    lines, words = SEEN.get((target.relation, target.name), ([target.relation], [f"{target.name} expected"]))
    return Damage(f"{target.relation}.{target.name}", lines, words)


def lines_of(topic: str) -> list[str]:
    more = {
        Result.WINDOWS.value: ["sales.windows, revisions", "window_revisions", "outbox"],
        Result.LATE.value: ["outbox"],
        Result.WATERMARKS.value: ["outbox"],
    }
    return [topic, *more.get(topic, ["cleaner.rules", "dead_letters"])]


def shown(topic: str, m: Message) -> Iterator[str]:
    """The ways in which a line may name a record."""
    yield f"{topic}/{m.partition()}@{m.offset()}:"
    yield f"{topic}/{m.partition()}@{m.offset()} "
    yield f"partition {m.partition()} offset {m.offset()}:"
    headers = dict(m.headers() or ())
    if "source.offset" in headers:
        source = int.from_bytes(headers["source.offset"] or b"", "big")
        yield f"partition {m.partition()} source_offset {source}:"
        yield f"{topic.partition('.')[0]}.raw/{m.partition()}@{source}:"
    if "__connect.errors.offset" in headers:
        source = int(headers["__connect.errors.offset"] or b"")
        yield f"{topic.partition('.')[0]}.raw/{m.partition()}@{source}:"
    if topic == Result.WINDOWS:
        r = streams.window(m)
        yield f"id {r['store_id'] or r['product_id']} revision {r['revision']} state '{r['state']}'"
