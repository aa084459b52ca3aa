"""Prints all records and rows of the keys that `verify` reports, because the servers are gone after the failure."""

import re
from collections.abc import Iterable

from sqlalchemy import text

from commands.demo.pipeline import Service
from commands.verify.report import Report
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, FIELDS, Entity
from retail_stream.kafka.headers import big_endian, headers_by_name
from retail_stream.kafka.reading import read_to_end
from tests.system.conftest import Running

# The same question by table and by index: a damaged index shows in the difference.
_BY_TABLE = ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan")
_LOG_CHARACTERS = 8000


def evidence(running: Running, report: Report) -> str:
    """Every record and row of the keys in the examples of the dimensions that differ."""
    lines = [f"{check.name}: {check.note} {'; '.join(check.examples)}" for check in report.failed]
    for entity in DIMENSIONS:
        found = [e for check in report.failed if check.name == f"dim_{entity}" for e in check.examples]
        keys = sorted({int(n) for e in found for n in re.findall(rf"{FIELDS[entity].key} (\d+)", e)})
        if keys:
            lines += [*_rows(running, entity, keys), *_records(running, entity, keys)]
    for service in (Service.CLEANER, Service.SCD_MERGER):
        lines += [f"log of {service}:", running.pipeline.log(service).read_text()[-_LOG_CHARACTERS:]]
    return "\n".join(lines)


def _rows(running: Running, entity: Entity, keys: list[int]) -> Iterable[str]:
    key, time = FIELDS[entity].key, FIELDS[entity].time
    versions = (
        f"SELECT xmin, ctid, {key}, valid_from, valid_to FROM dim_{entity} WHERE {key} = ANY(:keys) ORDER BY 3, 4"
    )
    changes = f"SELECT xmin, {key}, {time}, deleted FROM {entity}_changes WHERE {key} = ANY(:keys) ORDER BY 2, 3"
    for scans in ("on", "off"):
        with running.warehouse.connect() as connection:
            for setting in _BY_TABLE:
                connection.execute(text(f"SET LOCAL {setting} = {scans}"))
            for query in (versions, changes):
                yield f"indexes {scans}: {query}"
                yield from map(str, connection.execute(text(query), {"keys": keys}))
    with running.warehouse.connect() as connection:
        yield from map(str, connection.execute(text("SELECT * FROM consumer_positions ORDER BY 1, 2, 3")))


def _records(running: Running, entity: Entity, keys: list[int]) -> Iterable[str]:
    wanted = {str(key).encode() for key in keys}
    for topic in (topics.raw(entity), topics.clean(entity), topics.dlq(entity)):
        for m in read_to_end(running.connections, topic):
            if m.key() in wanted:
                what = "tombstone" if m.value() is None else "upsert"
                numbers = {n: big_endian(v) or v for n, v in headers_by_name(m).items()}
                yield f"{topic}/{m.partition()}@{m.offset()} key {m.key()!r} {m.timestamp()[1]} {what} {numbers}"
