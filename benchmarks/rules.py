"""What rules cost: the cleaner's pure part with today's rules of sales, and with thirty."""

import io
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import fastavro
import polars as pl
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from retail_stream.avro.decode import RecordSchema, frame
from retail_stream.avro.schema import plain_schema
from retail_stream.entities import Entity
from retail_stream.kafka.record_batches.columns import Columns
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.rules.built_in import Action, Expectation
from retail_stream.rules.rule_set import Rule, RuleSet, load
from retail_stream.topics import raw, topic
from services.cleaner.clean import Target, clean, values_of
from services.cleaner.context import with_context
from services.cleaner.verdict import judge

RECORDS = 20_000
RUNS = 25
SCHEMA_ID = 7
NOW_MS = 1_700_000_000_000

#: The conditions of today's rules as they were before they became data, by Polars' own SQL.
BEFORE = (
    "key IS NOT NULL AND key = CAST(store_id AS VARCHAR)",
    "event_time BETWEEN -2208988800000000 AND 253402300799999999",
    "event_time <= record_time + 300000000",
    " AND ".join(
        f"ABS(COALESCE({f}, 0)) < 1000000000" for f in ("unit_price", "total_amount", "discount_applied", "tax_amount")
    ),
    "NOT REGEXP_LIKE(COALESCE(payment_method, ''), '\\x00')",
    "discount_applied >= 0",
    "ABS(total_amount - quantity * unit_price) <= 0.011",
    "quantity <> 0",
    "unit_price >= 0",
)
#: What retailers may want beside today's rules.
MORE = (
    "payment_method IN ('credit_card', 'debit_card', 'mobile_wallet', 'cash', 'gift_card')",
    "payment_method LIKE '%_%'",
    "regexp_matches(payment_method, '^[a-z_]+$')",
    "LENGTH(payment_method) BETWEEN 1 AND 30",
    "payment_method <> 'cash' OR total_amount < 10000",
    "event_time >= TIMESTAMP '2000-01-01 00:00:00'",
    "event_time >= record_time - INTERVAL '400 days'",
    "quantity BETWEEN -100 AND 100",
    "store_id > 0 AND customer_id > 0 AND product_id > 0",
    "transaction_id > 0",
    "tax_amount <= ABS(total_amount)",
    "discount_applied <= ABS(total_amount) + 0.01",
    "unit_price <= 5000",
    "ABS(total_amount) <= 100000",
    "quantity > 0 OR total_amount <= 0",
    "NOT (quantity > 50 AND unit_price > 1000)",
    "tax_amount >= 0 OR quantity < 0",
    "COALESCE(discount_applied, 0) < 1000",
    "unit_price * 100 > 0.5",
    "ABS(quantity) * unit_price < 1e6",
    "payment_method NOT IN ('cheque', 'voucher')",
    "customer_id <> product_id OR customer_id < 1000000",
    "tax_amount + discount_applied < 1e6",
    "store_id < 100000",
    "event_time <> record_time + INTERVAL '1 second'",
)


def sales() -> Columns:
    """Good sales, as a fetch brings them."""
    schema = fastavro.parse_schema(plain_schema(topic(raw(Entity.SALES)).schema()))
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=2**26
    )
    for n in range(RECORDS):
        sale: dict[str, Any] = {"transaction_id": n + 1, "store_id": n % 50 + 1, "event_time": NOW_MS * 1000 - n}
        sale |= {"customer_id": n % 900 + 1, "product_id": n % 300 + 1, "quantity": 2, "unit_price": 49.9}
        sale |= {"total_amount": 99.8, "payment_method": ("credit_card", "cash")[n % 2]}
        sale |= {"discount_applied": 0.0, "tax_amount": 18.96}
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, sale)
        builder.append(n, NOW_MS, str(sale["store_id"]).encode(), frame(SCHEMA_ID, out.getvalue()), [])
    (columns,) = pieces(record_set(raw(Entity.SALES), 0, bytes(builder.build()), 0))
    return columns


def thirty() -> RuleSet:
    """Thirty rules of sales: those of the file and more."""
    today = load(Entity.SALES).rules
    more = [Rule(f"more_{n}", must, Action.WARN, "A benchmark.") for n, must in enumerate(MORE[: 30 - len(today)])]
    return RuleSet(Entity.SALES, (*today, *more))


def best(contestants: Sequence[Callable[[], object]]) -> list[float]:
    """Microseconds of CPU a record of each, the best of many interleaved runs."""
    times = [float("inf")] * len(contestants)
    for _ in range(RUNS):
        for n, work in enumerate(contestants):
            began = time.process_time()
            work()
            times[n] = min(times[n], time.process_time() - began)
    return [seconds / RECORDS * 1e6 for seconds in times]


def main() -> int:
    """Print microseconds of CPU a record, and ratios."""
    columns = sales()
    writer = RecordSchema(topic(raw(Entity.SALES)).schema())
    targets = {SCHEMA_ID: dict.fromkeys(writer.plan(writer.reader).branches.values(), Target(SCHEMA_ID, forwards=True))}
    before = [Expectation(f"rule_{n}", sql, pl.sql_expr(sql)) for n, sql in enumerate(BEFORE)]
    today, many = load(Entity.SALES).expectations, thirty().expectations

    def cleaning(rules: Sequence[Expectation]) -> None:
        with mock.patch("services.cleaner.clean.rules", return_value=rules):
            made = clean(Entity.SALES, columns, {SCHEMA_ID: writer}, writer, targets)
        assert not made.rejected

    seen = with_context(writer.read(values_of(columns), {SCHEMA_ID: writer}), columns)
    was, now, later, whole, whole_later = best(
        [
            lambda: judge(seen, before),
            lambda: judge(seen, today),
            lambda: judge(seen, many),
            lambda: cleaning(today),
            lambda: cleaning(many),
        ]
    )
    print(f"{'rules as code, Polars SQL':<40}{was:>8.3f} µs a record")
    print(f"{'the same rules as data':<40}{now:>8.3f}   {now / was:.2f} of that")
    print(f"{'thirty rules, and those that are code':<40}{later:>8.3f}   {later / was:.2f}")
    print(f"{'decoded, judged, cleaned':<40}{whole:>8.3f}")
    print(f"{'the same with thirty rules':<40}{whole_later:>8.3f}   rate {whole / whole_later:.2f}")
    return 0
