"""A fact names its record: when it was published, and where in `sales.raw` it is."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the three columns, also to the view. The facts that are stored do not have them: only the topics do.

    ``stored_before`` says up to which record of each partition that is so. It is empty in a new warehouse.
    """
    op.execute(f"""
        ALTER TABLE fact_sales
            ADD COLUMN published_at timestamptz,
            ADD COLUMN source_partition integer,
            ADD COLUMN source_offset bigint;
        COMMENT ON COLUMN fact_sales.published_at IS
            'the timestamp of the Kafka record; NULL in a fact that was stored before migration 0011';
        COMMENT ON COLUMN fact_sales.source_partition IS
            'the partition of the record, the same in sales.raw and sales.clean; NULL as published_at';
        COMMENT ON COLUMN fact_sales.source_offset IS
            'the offset of the record in sales.raw: the header source.offset of the clean record; NULL as published_at';

        CREATE TABLE stored_before (
            partition integer PRIMARY KEY,
            source_offset bigint NOT NULL
        );
        COMMENT ON TABLE stored_before IS
            'what the aggregator had stored when migration 0011 came; its facts do not name their records';
        COMMENT ON COLUMN stored_before.source_offset IS 'the largest offset in sales.raw, inclusive';
        INSERT INTO stored_before
        SELECT partition, source_offset FROM consumer_positions
        WHERE consumer_group = 'aggregator' AND topic = 'sales.clean' AND next_offset > 0;

        CREATE OR REPLACE VIEW sales_enriched AS
        SELECT f.transaction_id, f.store_id, f.event_time, f.customer_id, f.product_id, f.quantity, f.unit_price,
               f.total_amount, f.payment_method, f.discount_applied, f.tax_amount,
               c.customer_sk, c.name AS customer_name, c.email AS customer_email, c.loyalty_points,
               p.product_sk, p.name AS product_name, p.category, p.brand,
               s.store_sk, s.name AS store_name, s.manager,
               f.extra, f.published_at, f.source_partition, f.source_offset
        FROM fact_sales f
        {_as_of("customer", "c")}
        {_as_of("product", "p")}
        {_as_of("store", "s")};
    """)


def _as_of(name: str, alias: str) -> str:
    """SQL that joins the version that is valid at ``event_time``, as in migration 0003."""
    versions = f"SELECT v.* FROM dim_{name}s v WHERE v.{name}_id = f.{name}_id"
    return f"""
        LEFT JOIN LATERAL (
            ({versions} AND v.valid_from <= f.event_time ORDER BY v.valid_from DESC LIMIT 1)
            UNION ALL
            ({versions} ORDER BY v.valid_from LIMIT 1)
            ORDER BY valid_from DESC LIMIT 1
        ) {alias} ON {alias}.valid_from > f.event_time OR {alias}.valid_to IS NULL OR {alias}.valid_to > f.event_time
    """
