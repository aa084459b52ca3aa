"""Every table, view and column says what it holds."""

from alembic import op
from sqlalchemy import text

revision = "0014"
down_revision = "0013"

_RELATIONS = {
    "public.sales_enriched": (
        "a row for each fact, with the versions of customer, product and store that were valid at its event_time; the "
        "first version for an older sale, NULLs in a gap after a delete"
    ),
    "public.sales_by_window": "sums of the sales of each store in each window; docs/glossary.md explains the states",
    "public.sales_by_product_window": "sums of the sales of each product in each window",
    "public.sales_by_category_window": (
        "sales_by_product_window by the category of the product version that is valid at window_start; else of its "
        "first version, else Unknown"
    ),
    "public.consumer_positions": "how far merger and aggregator have read each partition; the services keep it",
    "public.pipeline_state": "one row: how complete the warehouse is, and the settings of its windows",
    "public.alembic_version": "the last migration that retail-stream init has applied",
    "pipeline.replays": "the replays of dead letters that a consumer has counted; a second one of a record is dropped",
    "pipeline.partition_watermarks": "the watermark of each partition of sales.clean, and its owner's epoch",
}
#: Column → what it holds, in every relation that has it and is not in ``_OWN``.
_COLUMNS = {
    "address": "postal address",
    "advanced_at": "while all partitions are idle: up to when real time is in the watermark",
    "age": "age in years",
    "allowed_lateness_s": "seconds for which a window that has fired is still revised; NULL before the first sale",
    "brand": "brand of the product",
    "category": "category of the product",
    "color": "colour of the product",
    "consumer_group": "the service, by its Kafka consumer group",
    "customer_id": "the customer, by the id of the source",
    "customer_name": "name of the customer, as of the sale",
    "customer_sk": "surrogate key of the version of the customer",
    "deleted": "whether the change is a delete; the attributes are NULL then",
    "description": "description of the product",
    "discount_applied": "discount on the whole line",
    "discounts": "sum of discount_applied over sales and returns, with its sign",
    "email": "e-mail address; Unknown if the source has none",
    "customer_email": "e-mail address of the customer, as of the sale; Unknown if the source has none",
    "epoch": "number of the owner; a worker with a smaller one has lost the partition, and its write is refused",
    "event_time": "when the sale took place",
    "expires": "the watermark at which no window of these sales is held any more",
    "extra": "fields of a newer schema that have no column, in the spelling of docs/schemas.md; NULL for none",
    "gender": "gender, as the source has it",
    "gross_sales": "sum of total_amount over sales",
    "headers": "a list of [name, value in hex]",
    "identities": "transaction ids, event times, then stores, each little-endian",
    "idle": "whether its owner found it quiet; counts until idle_until",
    "idle_partitions": "partitions of sales.clean that are quiet and hold no window back",
    "is_current": "true exactly for the open version, which has no valid_to",
    "join_date": "when the customer joined",
    "key": "key of the record",
    "last_update_time": "when the change took place; of a version, the same as valid_from",
    "loyalty_points": "points of the customer",
    "manager": "manager of the store; Unknown if the source has none",
    "name": "its name, as the source has it",
    "net_sales": "gross_sales - returns_amount - discounts",
    "next_offset": "the first offset of the clean topic that is not in the results",
    "open_date": "when the store opened",
    "outbox": "results that are stored and not yet published",
    "partition": "partition of the topic",
    "payment_method": "how the sale was paid",
    "phone_number": "phone number, as the source has it",
    "price": "price of one piece",
    "product_id": "the product, by the id of the source",
    "product_name": "name of the product, as of the sale",
    "product_sk": "surrogate key of the version of the product",
    "published_at": "the timestamp of the Kafka record; NULL in a fact that was stored before migration 0011",
    "quantity": "number of pieces; negative for a return",
    "returns_amount": "sum of -total_amount over returns",
    "revision": "0 while open and at the first firing; each later change of a fired window adds 1",
    "sales_windows": "the windows: sizes, or size/slide, with commas between; NULL before the first sale",
    "size": "size of the product",
    "source_offset": "the largest offset of the raw topic that is in the results, -1 for none",
    "source_partition": "the partition of the record, the same in sales.raw and sales.clean",
    "state": "open until the watermark reaches window_end; then fired; final once it cannot change any more",
    "status": "status of the store, as the source has it",
    "stock_quantity": "pieces in stock",
    "store_id": "the store, by the id of the source",
    "store_name": "name of the store, as of the sale",
    "store_sk": "surrogate key of the version of the store",
    "tax_amount": "tax on the whole line",
    "taxes": "sum of tax_amount over sales and returns, with its sign",
    "timestamp_ms": "timestamp of the record, milliseconds since 1970",
    "topic": "topic in Kafka",
    "total_amount": "quantity x unit_price; negative for a return",
    "transaction_id": "the sale, by the id of the source; with event_time and store_id its identity",
    "transactions": "number of sales and returns",
    "unit_price": "price of one piece at the sale",
    "units_returned": "pieces that were returned, a positive number",
    "units_sold": "pieces that were sold",
    "updated_at": "when the row was last written",
    "valid_from": "begin of the version, inclusive",
    "valid_to": "end of the version, exclusive; NULL for the open one",
    "version_num": "its number",
    "watermark": "up to when the events are here, as far as one can know; NULL before the first sale",
    "window_end": "end of the window, exclusive",
    "window_size": "length of the window",
    "window_start": "begin of the window, inclusive",
    "window_starts": "window_start of each window that the sale missed",
}
_OWN = {
    ("late_sales", "published_at"): "the timestamp of the Kafka record",
    ("late_sales", "source_offset"): "the offset of the record in sales.raw: source.offset of the clean record",
    ("late_sales", "watermark"): "the watermark of the partition when the sale came",
    ("replayed_rises", "next_offset"): "the offset of sales.clean from which the rise counts",
    ("replayed_rises", "watermark"): "the watermark from that offset on, at least",
    ("outbox", "id"): "order of publishing; part of the header outbox.id",
    ("outbox", "partition"): "partition to publish to; NULL: that of the key",
    ("sale_identities", "id"): "order of storing",
    ("outbox", "value"): "value of the record",
    ("stored_settings", "value"): "its value, which holds until the warehouse is empty again",
    ("stored_settings", "name"): "the environment variable",
    ("warehouse_id", "id"): "new in each warehouse; part of the header outbox.id",
}
#: View → the table whose columns it shows.
_SHOWS = {
    "customers_current": "dim_customers",
    "products_current": "dim_products",
    "stores_current": "dim_stores",
    "sales_enriched": "fact_sales",
    "sales_by_category_window": "sales_by_product_window",
}


def upgrade() -> None:
    """Comment what has no comment yet; views say of a column what its table says."""
    bind = op.get_bind()

    def comment(kind: str, name: str, words: str) -> None:
        quoted = words.replace("'", "''")
        op.execute(text(f"COMMENT ON {kind} {name} IS '{quoted}'".replace(":", "\\:")))

    comment("SCHEMA", "pipeline", "what the services keep for themselves: positions, changes, identities, the outbox")
    for relation, words in _RELATIONS.items():
        kind = bind.execute(
            text("SELECT relkind::text FROM pg_class WHERE oid = CAST(:name AS regclass)"), {"name": relation}
        ).scalar_one()
        comment("VIEW" if kind == "v" else "TABLE", relation, words)
    for partition, words in bind.execute(
        text("""
            SELECT partition::text,
                   format('the facts of fact_sales from %s to %s, exclusive, in UTC', first_day, after_day)
            FROM pipeline.fact_partitions p JOIN pg_class c ON c.oid = p.partition WHERE c.relispartition
        """)
    ).all():
        comment("TABLE", partition, words)
    for schema, relation, column in bind.execute(
        text("""
            SELECT c.relnamespace::regnamespace::text, c.relname, a.attname
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relnamespace IN ('public'::regnamespace, 'pipeline'::regnamespace)
              AND c.relkind IN ('r', 'p', 'v') AND col_description(c.oid, a.attnum) IS NULL
            ORDER BY c.relkind = 'v'
        """)
    ).all():
        shown = bind.execute(
            text("""
                SELECT col_description(attrelid, attnum) FROM pg_attribute
                WHERE attrelid = to_regclass(:table) AND attname = :column AND attnum > 0
            """),
            {"table": _SHOWS.get(relation, ""), "column": column},
        ).scalar_one_or_none()
        if words := shown or _OWN.get((relation, column)) or _COLUMNS.get(column):
            comment("COLUMN", f'{schema}."{relation}"."{column}"', words)
