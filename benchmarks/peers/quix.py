"""The job as a streaming dataframe of Quix Streams.

It keeps key and timestamp, and adds the header; the partition it cannot keep: its producer chooses one by the key.
"""

import io
import sys
from typing import Any

import fastavro
from quixstreams import Application, message_context

from benchmarks.peers.arguments import HEADER_BYTES, Arguments


def main(given: Arguments) -> None:
    """Work until a signal."""
    schema = fastavro.parse_schema(given.plain_schema)

    def judged(value: bytes) -> tuple[bytes, bool]:
        try:
            sale: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None)
            return value, sale["discount_applied"] >= 0
        except (EOFError, ValueError, IndexError):
            return value, False

    app = Application(
        broker_address=given.servers,
        consumer_group=given.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_interval=1.0,
        state_dir=given.state,
        loglevel="WARNING",
        producer_extra_config={"compression.type": "lz4", "enable.idempotence": True, "linger.ms": 5},
    )
    clean, dead = (
        app.topic(name, key_serializer="bytes", value_serializer="bytes") for name in (given.clean, given.dead)
    )
    source = app.topic(given.source, key_deserializer="bytes", value_deserializer="bytes")
    sales = app.dataframe(source).apply(judged)
    sales = sales.set_headers(lambda *_: [("source.offset", message_context().offset.to_bytes(8, "big"))])
    sales.filter(lambda sale: sale[1]).apply(lambda sale: sale[0]).to_topic(clean)
    sales.filter(lambda sale: not sale[1]).apply(lambda sale: sale[0]).to_topic(dead)
    app.run()


if __name__ == "__main__":
    main(Arguments.parse(sys.argv[1]))
