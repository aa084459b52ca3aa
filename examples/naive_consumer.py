"""A consumer as one writes it first, to be scored; docs/score-your-pipeline.md explains what it misses.

It reads the raw topics once and forwards what it can decode to the clean topics. Facts, minutes and histories go to the
database `naive`, beside that of DATABASE_URL; it is made anew each time.
"""

import io
import json
import os
import urllib.request
from datetime import UTC, datetime
from functools import cache

import fastavro
import psycopg
from confluent_kafka import Consumer, Producer

KAFKA, REGISTRY = os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["SCHEMA_REGISTRY_URL"]
SERVER, _, _ = os.environ["DATABASE_URL"].rpartition("/")
KEYS = {"customers": "customer_id", "products": "product_id", "stores": "store_id"}
TYPES = {"int": "integer", "long": "bigint", "double": "numeric(14, 2)", "string": "text"}
VERSION = "valid_from timestamptz, valid_to timestamptz, is_current boolean"
MINUTE = """INSERT INTO sales_by_window VALUES ('1 minute', date_trunc('minute', %(event_time)s), %(store_id)s,
            1, %(quantity)s, 0, %(total_amount)s, 0, %(discount_applied)s, %(tax_amount)s,
            %(total_amount)s::numeric - %(discount_applied)s::numeric)
            ON CONFLICT (window_start, store_id) DO UPDATE SET transactions = sales_by_window.transactions + 1, """
MINUTE += ", ".join(
    f"{m} = sales_by_window.{m} + EXCLUDED.{m}"
    for m in ("units_sold", "gross_sales", "discounts", "taxes", "net_sales")
)


@cache
def registry(path):
    with urllib.request.urlopen(f"{REGISTRY}/{path}") as answer:  # noqa: S310
        found = json.load(answer)
    return found.get("id"), fastavro.parse_schema(json.loads(found["schema"]))


def make_tables(database):
    for entity in ("sales", *KEYS):
        _, schema = registry(f"subjects/{entity}.clean-value/versions/latest")
        columns = ", ".join(f"{f['name']} {TYPES.get(str(f['type']), 'timestamptz')}" for f in schema["fields"])
        if entity == "sales":
            database.execute(f"CREATE TABLE fact_sales ({columns})")
        else:
            database.execute(f"CREATE TABLE dim_{entity} ({entity[:-1]}_sk serial, {columns}, {VERSION})")
    database.execute("""CREATE TABLE sales_by_window (window_size interval, window_start timestamptz, store_id integer,
        transactions integer, units_sold integer, units_returned integer, gross_sales numeric(14, 2),
        returns_amount numeric(14, 2), discounts numeric(14, 2), taxes numeric(14, 2), net_sales numeric(14, 2),
        PRIMARY KEY (window_start, store_id))""")


def insert(database, table, record):
    names = ", ".join(record)
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f'%({n})s' for n in record)})", record)


def store(database, entity, key, at, record):
    if entity == "sales":
        insert(database, "fact_sales", record)
        database.execute(MINUTE, record)
        return
    at = record["last_update_time"] if record else at
    ended = f"UPDATE dim_{entity} SET valid_to = %s, is_current = false WHERE {KEYS[entity]} = %s AND is_current"
    database.execute(ended, [at, int(key)])
    if record:
        insert(database, f"dim_{entity}", {**record, "valid_from": at, "is_current": True})


def main():
    with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS naive")
        server.execute("CREATE DATABASE naive")
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": "naive", "auto.offset.reset": "earliest"})
    consumer.subscribe([f"{entity}.raw" for entity in ("sales", *KEYS)])
    producer = Producer({"bootstrap.servers": KAFKA})
    with psycopg.connect(f"{SERVER}/naive") as database:
        make_tables(database)
        while (m := consumer.poll(6)) is not None:
            entity, value, record = m.topic().removesuffix(".raw"), m.value(), None
            try:
                if value is not None:
                    _, writer = registry(f"schemas/ids/{int.from_bytes(value[1:5], 'big')}")
                    number, clean = registry(f"subjects/{entity}.clean-value/versions/latest")
                    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), writer, writer)
                    if record.get("email", "") is None or record.get("manager", "") is None:
                        record["email" if "email" in record else "manager"] = ""
                    out = io.BytesIO()
                    fastavro.schemaless_writer(out, clean, record)
                    value = b"\0" + number.to_bytes(4, "big") + out.getvalue()
            except Exception as error:
                print(f"skips {m.topic()}/{m.partition()}@{m.offset()}: {error!r}")
                continue
            headers = [*(m.headers() or []), ("source.offset", m.offset().to_bytes(8, "big"))]
            at = datetime.fromtimestamp(m.timestamp()[1] / 1000, UTC)
            producer.produce(
                f"{entity}.clean", value, m.key(), m.partition(), timestamp=m.timestamp()[1], headers=headers
            )
            store(database, entity, m.key(), at, record)
    producer.flush()
    consumer.close()


if __name__ == "__main__":
    main()
