"""Who takes part: each a process of its own that turns `sales.clean` into sums per minute, store and product."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import text

from benchmarks.cleaner.contestants import PEERS, PEERS_PYTHON, Contestant, Missing
from benchmarks.cleaner.world import CLEAN, World
from benchmarks.peers import jars
from benchmarks.windows.stream import Found
from retail_stream.kafka.reading import read_to_end
from retail_stream.topics import SCHEMAS, Group
from retail_stream.warehouse import postgres

OURS, QUIX, STREAMS, FLINK = "ours", "quix", "streams", "flink"


@dataclass(frozen=True)
class Entrant:
    """A contestant and the windows that it came to. ``again``: a topic of its own through which it sends all sales."""

    title: str
    contestant: Callable[[World], Contestant]
    found: Callable[[World], Found]
    again: str | None = None


def _ours(_: World) -> Contestant:
    return Contestant("aggregator", [[sys.executable, "-m", "services.aggregator"]], (CLEAN, CLEAN), Group.AGGREGATOR)


def in_postgres(w: World) -> Found:
    """What the aggregator has stored."""
    engine = postgres.engine(w.connections.database_url)
    select = text("""
        SELECT 'store', extract(epoch FROM window_start)::bigint, store_id, transactions
        FROM sales_by_window
        UNION ALL
        SELECT 'product', extract(epoch FROM window_start)::bigint, product_id, transactions
        FROM sales_by_product_window
    """)
    with engine.connect() as connection:
        found = {(kind, start, id_): count for kind, start, id_, count in connection.execute(select)}
    engine.dispose()
    return found


def _lines(group: str) -> Callable[[World], Found]:
    def read(w: World) -> Found:
        found: Found = {}
        for kind, topic in (("store", f"{group}.clean"), ("product", f"{group}.dlq")):
            for line in _values(w, topic):
                window, _, sums = line.partition("=")
                start, key = window.split("@")
                # What is sent on later replaces what was.
                found[kind, int(start), int(key)] = int(sums.split(",")[0])
        return found

    return read


def _values(w: World, topic: str) -> Iterator[str]:
    for message in read_to_end(w.connections, topic):
        yield message.value().decode()


def _quix(w: World) -> Contestant:
    if not PEERS_PYTHON.exists():
        raise Missing("the peers' packages are not installed (make bench-windows does it)")
    given = replace(w.arguments("quix_windows"), source=CLEAN, schema_file=str(SCHEMAS / "clean" / "sales.avsc"))
    command = [str(PEERS_PYTHON), "-m", "benchmarks.peers.quix_windows", given.text()]
    return Contestant("quix_windows", [command], (given.clean, given.dead), given.group)


def _java(name: str, program: str, lock: str, *options: str) -> Callable[[World], Contestant]:
    def make(w: World) -> Contestant:
        compiler, java = shutil.which("javac"), shutil.which("java")
        if compiler is None or java is None:
            raise Missing("no JDK (javac) on the path")
        given = w.arguments(name)
        path, classes = jars.class_path(lock), Path(given.state) / "classes"
        subprocess.run([compiler, "-cp", path, "-d", classes, PEERS / f"{program}.java"], check=True)
        command = [java, *options, "-Xmx2g", "-cp", f"{classes}:{path}", program, given.servers, name, CLEAN]
        command += [given.clean, given.dead, str(SCHEMAS / "clean" / "sales.avsc"), f"{given.state}/state", "2"]
        return Contestant(name, [command], (given.clean, given.dead), name)

    return make


# Flink's own list for Java 17 is longer; this much its serialisers need here.
_OPEN = ("--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED")
ENTRANTS = {
    OURS: Entrant("aggregator", _ours, in_postgres),
    STREAMS: Entrant(
        "Kafka Streams, 2 threads",
        _java("windows.streams", "WindowsStreams", jars.STREAMS),
        _lines("windows.streams"),
        "windows.streams-products-repartition",
    ),
    FLINK: Entrant(
        "Flink, parallelism 2",
        _java("windows.flink", "WindowsFlink", jars.FLINK, *_OPEN),
        _lines("windows.flink"),
    ),
    QUIX: Entrant("Quix Streams", _quix, _lines("quix_windows"), "repartition__quix_windows--sales.clean--product"),
}
