"""dbt snapshots with the timestamp strategy, after each of a number of batches.

    python -m benchmarks.peers.dbt_snapshot <database URL> <changes.parquet> <runs> <folder>

Prints the seconds that the runs took, with bringing each batch into the table that is watched, without dbt's own start.
https://docs.getdbt.com/docs/build/snapshots
"""

import io
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pyarrow.parquet
import yaml
from dbt.cli.main import dbtRunner

URL, FILE, RUNS, FOLDER = sys.argv[1:]
SCHEMA = "dbt_snapshot"
SNAPSHOT = {
    "unique_key": "product_id",
    "strategy": "timestamp",
    "updated_at": "last_update_time",
}


def project(folder: Path) -> None:
    """Write a project with one source and its snapshot."""
    at = urlsplit(URL)
    target = {
        "type": "postgres",
        "host": at.hostname,
        "port": at.port,
        "user": at.username,
        "password": at.password or "",
        "dbname": at.path[1:],
        "schema": SCHEMA,
        "threads": 1,
    }
    source = {"name": "shop", "schema": SCHEMA, "tables": [{"name": "products"}]}
    snapshot = {"name": "products_snapshot", "relation": "source('shop', 'products')", "config": SNAPSHOT}
    files = {
        "dbt_project.yml": {
            "name": "scd",
            "profile": "scd",
            "version": "1.0",
            "flags": {"send_anonymous_usage_stats": False},
        },
        "profiles.yml": {"scd": {"target": "here", "outputs": {"here": target}}},
        "models/sources.yml": {"sources": [source]},
        "snapshots/products.yml": {"snapshots": [snapshot]},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(yaml.safe_dump(content))


def upsert(connection: psycopg2.extensions.connection, rows: list[dict]) -> None:
    """Bring the newest row of each product into the watched table, as an operational system would have it."""
    newest: dict[int, dict] = {}
    for row in rows:
        before = newest.get(row["product_id"])
        if before is None or before["last_update_time"] < row["last_update_time"]:
            newest[row["product_id"]] = row
    columns = list(rows[0])
    values = ", ".join(f"{c} = excluded.{c}" for c in columns)
    lines = "\n".join("\t".join(str(row[c]) for c in columns) for row in newest.values())
    with connection, connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {SCHEMA}.incoming")
        cursor.copy_expert(f"COPY {SCHEMA}.incoming ({', '.join(columns)}) FROM STDIN", io.StringIO(lines))
        cursor.execute(
            f"INSERT INTO {SCHEMA}.products SELECT * FROM {SCHEMA}.incoming ON CONFLICT (product_id)"
            f" DO UPDATE SET {values} WHERE products.last_update_time < excluded.last_update_time"
        )


def main() -> None:
    """Run the snapshot after each batch."""
    project(Path(FOLDER))
    rows = pyarrow.parquet.read_table(FILE).to_pylist()
    size = -(-len(rows) // int(RUNS))
    connection = psycopg2.connect(URL)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"""
            CREATE SCHEMA {SCHEMA};
            CREATE TABLE {SCHEMA}.products (
                product_id int PRIMARY KEY, last_update_time timestamptz, name text, category text, brand text,
                price numeric(14, 2), stock_quantity int, size text, color text, description text);
            CREATE UNLOGGED TABLE {SCHEMA}.incoming (LIKE {SCHEMA}.products);
        """)
    where = ["--project-dir", FOLDER, "--profiles-dir", FOLDER, "--quiet"]
    dbt = dbtRunner()
    dbt.invoke(["parse", *where])
    began = time.perf_counter()
    for first in range(0, len(rows), size):
        upsert(connection, rows[first : first + size])
        result = dbt.invoke(["snapshot", *where])
        if not result.success:
            raise SystemExit(f"dbt: {result.exception or result.result}")
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
