"""The job as Faust's documentation would have it done: an agent, one event at a time, a `send` for each.

Faust keeps all that is asked for. Its producer is not idempotent.
"""

import io
import sys
from typing import Any

import fastavro
import faust

from benchmarks.peers.arguments import HEADER_BYTES, Arguments

given = Arguments.parse(sys.argv[1])
schema = fastavro.parse_schema(given.plain_schema)

app = faust.App(
    given.group,
    broker=f"kafka://{given.servers}",
    key_serializer="raw",
    value_serializer="raw",
    consumer_auto_offset_reset="earliest",
    broker_commit_interval=1.0,
    producer_acks=-1,
    producer_compression_type="lz4",
    producer_linger_ms=5,
    topic_disable_leader=True,
    web_enabled=False,
    datadir=given.state,
)
source, clean, dead = (app.topic(name) for name in (given.source, given.clean, given.dead))


@app.agent(source)
async def cleaner(events: faust.StreamT[bytes]) -> None:
    """Decode, look at the discount, send on."""
    async for event in events.events():
        message = event.message
        try:
            sale: Any = fastavro.schemaless_reader(io.BytesIO(event.value[HEADER_BYTES:]), schema, None)
            good = sale["discount_applied"] >= 0
        except (EOFError, ValueError, IndexError):
            good = False
        await (clean if good else dead).send(
            key=message.key,
            value=message.value,
            partition=message.partition,
            timestamp=message.timestamp,
            headers={"source.offset": message.offset.to_bytes(8, "big")},
        )


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARN", redirect_stdouts=False).execute_from_commandline()
