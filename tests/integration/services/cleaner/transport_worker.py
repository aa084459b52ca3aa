"""A worker for test_transport.py: an app with one agent that says on stdout what it did, a JSON line for each event.

    python transport_worker.py <bootstrap servers> <group> <topic> [option=value …]

Times are of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import json
import logging
import sys
import threading
import time
from itertools import pairwise

from retail_stream.service import signals
from services.cleaner.transport import App, Chunking, run


class Boom(Exception):
    exit_code = 7


def say(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


async def comes(chunks) -> bool:
    """Whether there is another chunk, or will be within two seconds."""
    for _ in range(200):
        if chunks.more_waits:
            return True
        await asyncio.sleep(0.01)
    return False


def main(servers: str, group: str, topic: str, *options: str) -> int:
    given = dict(option.split("=") for option in options)
    work_s = float(given.get("work_s", 0))
    fail_at = int(given.get("fail_at", -1))
    together = int(given.get("together", 1))
    app = App(
        group,
        broker=f"kafka://{servers}",
        chunking=Chunking(max_records=int(given.get("max_records", 10_000)), grace_s=float(given.get("grace_s", 5))),
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
    )

    @app.agent(app.topic(topic))
    async def work(chunks):
        held = 0
        async for chunk in chunks:
            values = [int(record.value()) for record in chunk.records]
            offsets = [record.offset() for record in chunk.records]
            facts = {
                "partition": chunk.partition,
                "first": chunk.first_offset,
                "next": chunk.next_offset,
                "values": [values[0], values[-1], len(values)],
                "ascending": all(a < b for column in (offsets, values) for a, b in pairwise(column)),
            }
            say("begin", **facts)
            if fail_at in values:
                raise Boom(f"value {fail_at}")
            await asyncio.sleep(work_s)
            held = held + 1 if held + 1 < together and await comes(chunks) else 0
            if held:
                chunks.hold_back()
            say("done", held=held, **facts)

    @app.task
    async def watch():
        was_settled = False
        while True:
            await asyncio.sleep(0.05)
            if app.is_settled != was_settled:
                was_settled = app.is_settled
                say("settled" if was_settled else "unsettled")
            for tp, (position, acknowledged, committed, end) in app.consumer.progress().items():
                say(
                    "progress",
                    partition=tp.partition,
                    position=position,
                    acknowledged=acknowledged,
                    committed=committed,
                    end=end,
                )

    if "scenario" in given:
        app.task(SCENARIOS[given["scenario"]](app))
    stop = threading.Event()
    signals.listen(stop.set)
    return run(app, stop)


async def all_acknowledged(app: App) -> None:
    """Until every record that is there now was acknowledged."""
    while True:
        await asyncio.sleep(0.05)
        progress = app.consumer.progress().values()
        if progress and all(p.end is not None and p.acknowledged == p.end for p in progress):
            return


def seek_back(app: App):
    async def scenario():
        await all_acknowledged(app)
        say("seek")
        await app.consumer.seek(sorted(app.consumer.progress())[0], 10)

    return scenario


def pause_one(app: App):
    async def scenario():
        while not app.consumer.progress():
            await asyncio.sleep(0.01)
        first = sorted(app.consumer.progress())[0]
        app.consumer.pause_partitions([first])
        say("paused")
        await asyncio.sleep(1.5)
        say("resumed")
        app.consumer.resume_partitions([first])

    return scenario


SCENARIOS = {"seek_back": seek_back, "pause_one": pause_one}

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(main(*sys.argv[1:]))
