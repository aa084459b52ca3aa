"""Sums per minute with Quix Streams, per store and per product: tumbling windows that are sent on when they close."""

import io
import sys
from typing import Any

import fastavro
from quixstreams import Application
from quixstreams.dataframe import StreamingDataFrame
from quixstreams.dataframe.windows import Count, Sum

from benchmarks.peers.arguments import HEADER_BYTES, Arguments


def main(given: Arguments) -> None:
    """Work until a signal."""
    schema = fastavro.parse_schema(given.plain_schema)

    def decoded(value: bytes) -> dict[str, Any]:
        sale: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None)
        cents = round(sale["total_amount"] * 100)
        wanted = {"time": sale["event_time"] // 1000, "product": str(sale["product_id"])}
        return {**wanted, "quantity": sale["quantity"], "cents": cents}

    def send_sums(keyed: StreamingDataFrame, output: str) -> None:
        windows = keyed.tumbling_window(duration_ms=60_000, grace_ms=70_000)
        sums = windows.agg(count=Count(), quantity=Sum("quantity"), cents=Sum("cents")).final()
        lines = sums.apply(
            lambda w, key, *_: f"{w['start'] // 1000}@{key}={w['count']},{w['quantity']},{w['cents']}", metadata=True
        )
        lines.to_topic(app.topic(output, key_serializer="str", value_serializer="str"))

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
    sales = app.dataframe(source).apply(decoded).set_timestamp(lambda sale, *_: sale["time"])
    send_sums(sales, given.clean)
    send_sums(sales.group_by("product", key_serializer="str", key_deserializer="str"), given.dead)
    app.run()


if __name__ == "__main__":
    main(Arguments.parse(sys.argv[1]))
