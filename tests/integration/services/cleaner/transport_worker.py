"""A worker for test_transport.py: an app with one agent that says on stdout what it did, a JSON line for each event.

    python transport_worker.py <bootstrap servers> <group> <topic> [option=value …]

Times are of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from itertools import pairwise
from typing import Any, cast

from retail_stream.service import logs, signals
from retail_stream.settings import Connections
from services.cleaner.channels import App
from services.cleaner.feed import Feed
from services.cleaner.running import run


class Boom(Exception):
    exit_code = 7


def say(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


async def main(servers: str, group: str, topic: str, *options: str) -> int:
    given = dict(option.split("=") for option in options)
    work_s, fail_at = float(given.get("work_s", 0)), int(given.get("fail_at", -1))
    connections = Connections(
        kafka_bootstrap_servers=servers,
        schema_registry_url="http://127.0.0.1:1",
        database_url="postgresql://127.0.0.1:1/none",
        kafka_session_timeout_s=6.0,
    )
    app = App(group)
    channel: Any = app.channel()

    @app.agent(channel, concurrency=int(given.get("concurrency", 1)))
    async def work(chunks):
        async for chunk in chunks:
            rows = [(piece, row) for piece in chunk.records.pieces for row in range(len(piece))]
            if not rows:
                continue
            values = [int(piece.value(row)) for piece, row in rows]
            offsets = [int(piece.offset[row]) for piece, row in rows]
            facts = {
                "partition": chunk.place[1],
                "first": offsets[0],
                "next": chunk.records.end,
                "values": [values[0], values[-1], len(values)],
                "ascending": all(a < b for column in (offsets, values) for a, b in pairwise(column)),
            }
            say("begin", **facts)
            if fail_at in values:
                raise Boom(f"value {fail_at}")
            await asyncio.sleep(work_s)
            say("done", **facts)

    feed = Feed(connections, group, {topic: channel.put}, grace_s=float(given.get("grace_s", 5)))
    if "freeze" in given:
        freeze_before_claim(feed, int(given["freeze"]))
    watching = asyncio.create_task(watch(feed))
    stop = threading.Event()
    signals.listen(stop.set)
    try:
        return await run(app, feed, stop)
    finally:
        watching.cancel()


def freeze_before_claim(feed: Feed, broker: int) -> None:
    """Freeze the broker's process before the group's offsets are asked for the first time."""
    ask = feed.membership.committed

    async def committed(places):
        if not frozen:
            frozen.append(broker)
            os.kill(broker, signal.SIGSTOP)
            say("frozen")
        return await ask(places)

    frozen: list[int] = []
    cast("Any", feed.membership).committed = committed


async def watch(feed: Feed) -> None:
    member = feed.membership
    was_settled = was_reading = False
    while True:
        await asyncio.sleep(0.05)
        if member.joined != was_settled:
            was_settled = member.joined
            say("settled" if was_settled else "unsettled")
        if (member.joined and member.reading) != was_reading:
            was_reading = not was_reading
            say("ready", reads=was_reading)
        for place, position in member.owned.items():
            at = {"acknowledged": position.next_offset, "committed": member._committed.get(place)}
            say("progress", partition=place[1], **at)


if __name__ == "__main__":
    logs.configure("worker")
    sys.exit(asyncio.run(main(*sys.argv[1:])))
