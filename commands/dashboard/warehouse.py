"""What the page reads from Postgres, as a role that can only read, within five seconds per query."""

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from psycopg import errors
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from commands.dashboard.settings import DashboardSettings
from commands.status.refusals import refusals
from retail_stream.entities import FIELDS, JOINED, Entity
from retail_stream.errors import RetailStreamError
from retail_stream.kafka.offsets import TopicPartitionKey
from retail_stream.topics import Group
from retail_stream.warehouse import positions, postgres
from retail_stream.warehouse.roles import READER

#: Versions shown of one key, the newest; characters shown of a text and of a name.
SHOWN_VERSIONS, _SHOWN_TEXT, _SHOWN_NAME = 200, 1000, 200
_SESSION = {"default_transaction_read_only": "on", "statement_timeout": "5s"}
_FIELDS_OF_A_VERSION = {"valid_from", "valid_to", "is_current", "last_update_time"}

Row = Mapping[str, Any]
_log = structlog.get_logger(__name__)


class TooSlow(RetailStreamError):
    """A query took longer than five seconds."""


def reader(settings: DashboardSettings) -> Engine:
    """An engine whose sessions can read, and nothing else."""
    if settings.dashboard_database_url:
        return postgres.engine(settings.dashboard_database_url, **_SESSION)
    return postgres.engine(settings.database_url, role=READER, **_SESSION)


@contextmanager
def session(engine: Engine) -> Iterator[Connection]:
    """A connection for a few queries.

    Raises:
        Unavailable: Postgres does not answer.
        TooSlow: a query took longer than five seconds.
        RetailStreamError: Postgres refuses us, or `retail-stream init` has not run.
    """
    with postgres.outages(engine), refusals(engine):
        try:
            with engine.connect() as connection:
                yield connection
        except DBAPIError as e:
            if isinstance(e.orig, errors.QueryCanceled):
                raise TooSlow("The warehouse did not answer within 5 s; ask for less.") from e
            raise


_STATE = text("""
    SELECT extract(epoch FROM watermark)::float8 AS watermark, outbox, idle_partitions, allowed_lateness_s
    FROM pipeline_state
""")


def state(connection: Connection) -> Row:
    """Watermark (s since 1970, None before the first sale), outbox, idle partitions, allowed lateness (s)."""
    return dict(connection.execute(_STATE).mappings().one())


def stored_positions(connection: Connection) -> Mapping[Group, Mapping[TopicPartitionKey, int]]:
    """Next offsets of the groups that keep them in Postgres."""
    return positions.stored(connection)


# The as-of join of `sales_enriched` for one key: the bounds of its versions are read once, and each sale finds its
# version by bisection. A sale before the first version belongs to it; one at or after its version's end is in a gap.
_SALES_OF_VERSIONS = """
    WITH versions AS MATERIALIZED (
        SELECT array_agg({sk} ORDER BY valid_from) AS sks, array_agg(valid_from ORDER BY valid_from) AS starts,
               array_agg(coalesce(valid_to, 'infinity') ORDER BY valid_from) AS ends
        FROM dim_{entity} WHERE {key} = :number
    )
    SELECT CASE WHEN event_time < (SELECT ends FROM versions)[n] THEN (SELECT sks FROM versions)[n] END AS sk,
           count(*) AS sales, sum(quantity)::bigint AS units, sum(total_amount) AS total_amount
    FROM (SELECT greatest(1, width_bucket(event_time, (SELECT starts FROM versions))) AS n,
                 event_time, quantity, total_amount
          FROM fact_sales WHERE {key} = :number) f
    GROUP BY 1
"""


def history(connection: Connection, entity: Entity, number: int) -> dict[str, Any] | None:
    """The versions of one key, newest first, with the changes from the version before and the sales as of each.

    Returns None for an unknown key. ``versions_total`` may exceed the number of listed versions. Counting the
    sales of a key that has very many may take too long. Then ``sales_counted`` is false; ``sales``,
    ``units`` and ``total_amount`` are None; and the connection takes no further query.
    """
    key, sk = FIELDS[entity].key, f"{entity.value.removesuffix('s')}_sk"
    rows = (
        connection.execute(
            text(
                f"SELECT {_columns(connection, entity)} FROM dim_{entity} WHERE {key} = :number "
                "ORDER BY valid_from DESC LIMIT :most"
            ),
            {"number": number, "most": SHOWN_VERSIONS + 1},
        )
        .mappings()
        .all()
    )
    if not rows:
        return None
    total = connection.execute(text(f"SELECT count(*) FROM dim_{entity} WHERE {key} = :number"), {"number": number})
    versions_total = total.scalar_one()
    sold = _sales_of_versions(connection, entity, number) if entity in JOINED else {}
    versions = []
    for at, row in enumerate(rows[:SHOWN_VERSIONS]):
        before = rows[at + 1] if at + 1 < len(rows) else None
        fields = {name: value for name, value in row.items() if name not in {*_FIELDS_OF_A_VERSION, sk, key}}
        none = {"sales": 0, "units": 0, "total_amount": 0} if sold is not None else dict.fromkeys(_SOLD)
        versions.append(
            {
                "valid_from": row["valid_from"],
                "valid_to": row["valid_to"],
                "is_current": row["is_current"],
                "fields": fields,
                "changed": {n: before[n] for n, v in fields.items() if before[n] != v} if before else None,
                **(sold or {}).get(row[sk], none),
            }
        )
    return {
        "entity": entity.value,
        "id": number,
        "versions_total": versions_total,
        "versions": versions,
        "sales_counted": sold is not None,
        "sales_without_version": (sold or {}).get(None, {}).get("sales", 0),
    }


def _columns(connection: Connection, entity: Entity) -> str:
    """The columns of a dimension, in SQL. Of a long text the beginning is read, and a digest: two may differ later."""
    kinds = connection.execute(
        text(
            "SELECT attname, atttypid::regtype::text FROM pg_attribute "
            "WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ),
        {"table": f"dim_{entity}"},
    )
    return ", ".join(_shortened(f'"{name}"', kind) for name, kind in kinds)


def _shortened(column: str, kind: str) -> str:
    if kind not in ("text", "json", "jsonb"):
        return column
    written = f"{column}::text"
    words = (
        f"left({written}, {_SHOWN_TEXT}) || '… (' || length({written}) || ' characters, md5 ' || md5({written}) || ')'"
    )
    as_text = f"CASE WHEN length({written}) > {_SHOWN_TEXT} THEN {words} "
    return f"{as_text}ELSE {column} END AS {column}" if kind == "text" else f"{as_text}ELSE {written} END AS {column}"


_SOLD = ("sales", "units", "total_amount")


def _sales_of_versions(connection: Connection, entity: Entity, number: int) -> dict[int | None, Row] | None:
    """Sales, units and amount by surrogate key (None: in a gap); None if counting took too long."""
    key, sk = FIELDS[entity].key, f"{entity.value.removesuffix('s')}_sk"
    query = text(_SALES_OF_VERSIONS.format(entity=entity, key=key, sk=sk))
    try:
        rows = connection.execute(query, {"number": number}).mappings().all()
    except DBAPIError as e:
        if not isinstance(e.orig, errors.QueryCanceled):
            raise
        _log.info("counting the sales of a history took too long", entity=entity.value)
        return None
    return {row["sk"]: {name: row[name] for name in _SOLD} for row in rows}


def find(connection: Connection, entity: Entity, words: str, most: int) -> list[dict[str, Any]]:
    """Current keys whose id begins with ``words`` or whose name contains them, by id; the last ones for no words.

    A deleted key is found by its whole id only.
    """
    key = FIELDS[entity].key
    query = text(f"""
        SELECT {key} AS id, left(name, {_SHOWN_NAME}) AS name FROM {entity}_current
        WHERE :words = '' OR {key}::text LIKE :start ESCAPE '!' OR name ILIKE :composed ESCAPE '!'
              OR name ILIKE :decomposed ESCAPE '!'
        ORDER BY {key}::text = :words DESC, CASE WHEN :words = '' THEN -{key} ELSE {key} END
        LIMIT :most
    """)
    escaped = "".join(f"!{c}" if c in "!%_" else c for c in words)
    # An é is one character or two, as the producer's keyboard made it.
    composed, decomposed = (unicodedata.normalize(form, escaped) for form in ("NFC", "NFD"))
    asked = {"words": words, "start": f"{escaped}%", "most": most}
    asked |= {"composed": f"%{composed}%", "decomposed": f"%{decomposed}%"}
    keys = [dict(row) for row in connection.execute(query, asked).mappings()]
    digits = words.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(words) not in (row["id"] for row in keys):
        gone = text(
            f"SELECT {key} AS id, left(name, {_SHOWN_NAME}) AS name FROM dim_{entity} WHERE {key} = :id "
            "ORDER BY valid_from DESC LIMIT 1"
        )
        keys[:0] = [dict(row) for row in connection.execute(gone, {"id": int(words)}).mappings()]
    return keys[:most]
