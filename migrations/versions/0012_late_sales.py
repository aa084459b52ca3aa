"""Analysts read which sales missed a window, and by how much."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the table; the aggregator fills it. Late sales from before are on `sales.late` only."""
    op.execute("""
        CREATE TABLE late_sales (
            transaction_id bigint NOT NULL,
            store_id integer NOT NULL,
            event_time timestamptz NOT NULL,
            customer_id integer NOT NULL,
            product_id integer NOT NULL,
            quantity integer NOT NULL,
            unit_price numeric(14,2) NOT NULL,
            total_amount numeric(14,2) NOT NULL,
            payment_method text NOT NULL,
            discount_applied numeric(14,2) NOT NULL,
            tax_amount numeric(14,2) NOT NULL,
            extra jsonb,
            published_at timestamptz NOT NULL,
            source_partition integer NOT NULL,
            source_offset bigint,
            window_sizes interval[] NOT NULL,
            window_starts timestamptz[] NOT NULL,
            late_by interval[] NOT NULL,
            watermark timestamptz NOT NULL
        );
        CREATE INDEX late_sales_store ON late_sales (store_id, event_time);
        COMMENT ON TABLE late_sales IS
            'sales that were too late for one of their windows or more: a row for each record of sales.late. The sale '
            'is in fact_sales too, and counts in the windows that it did not miss';
        COMMENT ON COLUMN late_sales.window_sizes IS
            'window_size of each window that the sale missed, the shortest and oldest first; '
            'unnest(window_sizes, window_starts, late_by) makes a row of each';
        COMMENT ON COLUMN late_sales.window_starts IS 'window_start of each window that the sale missed';
        COMMENT ON COLUMN late_sales.late_by IS
            'for each window, how far the watermark was past its end and the allowed lateness';
        COMMENT ON COLUMN late_sales.watermark IS 'the watermark of the partition when the sale came';
    """)
