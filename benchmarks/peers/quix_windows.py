"""Sums per store and minute with Quix Streams: tumbling windows that are sent on when they close."""

import io
import sys
from typing import Any

import fastavro
from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

from benchmarks.peers.arguments import HEADER_BYTES, Arguments


def main(given: Arguments) -> None:
    """Work until a signal."""
    schema = fastavro.parse_schema(given.plain_schema)

    def decoded(value: bytes) -> dict[str, Any]:
        sale: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None)
        cents = round(sale["total_amount"] * 100)
        return {"time": sale["event_time"] // 1000, "quantity": sale["quantity"], "cents": cents}

    app = Application(
        broker_address=given.servers,
        consumer_group=given.group,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=given.state,
        loglevel="WARNING",
        producer_extra_config={"compression.type": "lz4", "linger.ms": 5},
    )
    source = app.topic(given.source, key_deserializer="str", value_deserializer="bytes")
    output = app.topic(given.clean, key_serializer="str", value_serializer="str")
    sales = app.dataframe(source).apply(decoded).set_timestamp(lambda sale, *_: sale["time"])
    windows = sales.tumbling_window(duration_ms=60_000, grace_ms=70_000)
    sums = windows.agg(count=Count(), quantity=Sum("quantity"), cents=Sum("cents")).final()
    lines = sums.apply(
        lambda w, store, *_: f"{w['start'] // 1000}@{store}={w['count']},{w['quantity']},{w['cents']}", metadata=True
    )
    lines.to_topic(output)
    app.run()


if __name__ == "__main__":
    main(Arguments.parse(sys.argv[1]))
