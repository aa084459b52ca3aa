"""Sales: facts, windows, watermarks, identities of counted sales, and the outbox."""

from alembic import op

revision = "0003"
down_revision = "0002"

# Sums have more digits than amounts: a thousand sales of almost 10⁹ exceed fourteen digits.
_WINDOWS = """
    CREATE TABLE {table} (
        window_size interval NOT NULL,
        window_start timestamptz NOT NULL,
        window_end timestamptz NOT NULL,
        {id} integer NOT NULL,
        transactions bigint NOT NULL,
        units_sold bigint NOT NULL,
        units_returned bigint NOT NULL,
        gross_sales numeric(20,2) NOT NULL,
        returns_amount numeric(20,2) NOT NULL,
        discounts numeric(20,2) NOT NULL,
        taxes numeric(20,2) NOT NULL,
        net_sales numeric(20,2) NOT NULL GENERATED ALWAYS AS (gross_sales - returns_amount - discounts) STORED,
        revision integer NOT NULL,
        state text NOT NULL CHECK (state IN ('open', 'fired', 'final')),
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (window_size, window_start, {id})
    ) WITH (fillfactor = 70);
    CREATE INDEX {table}_open ON {table} (window_end) WHERE state = 'open';
    CREATE INDEX {table}_fired ON {table} (window_end) WHERE state = 'fired';
"""


def upgrade() -> None:
    """Create the tables that the aggregator writes and the views over them."""
    op.execute(_WINDOWS.format(table="sales_by_window", id="store_id"))
    op.execute(_WINDOWS.format(table="sales_by_product_window", id="product_id"))
    op.execute("""
        CREATE TABLE fact_sales (
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
            PRIMARY KEY (transaction_id, event_time, store_id)
        ) PARTITION BY RANGE (event_time);
        COMMENT ON TABLE fact_sales IS
            'every distinct clean sale; a partition for each UTC day is attached when its first sale comes';
        CREATE INDEX fact_sales_event_time ON fact_sales USING brin (event_time);

        CREATE TABLE stream_watermark (
            topic text PRIMARY KEY,
            watermark timestamptz,
            advanced_at timestamptz
        );
        COMMENT ON TABLE stream_watermark IS
            'how far event time has come; NULL: before the first record. Its row is the lock of the aggregators';
        COMMENT ON COLUMN stream_watermark.advanced_at IS
            'while all partitions are idle: up to when real time is in the watermark';
        INSERT INTO stream_watermark (topic) VALUES ('sales.clean');

        CREATE TABLE partition_watermarks (
            topic text NOT NULL,
            partition integer NOT NULL,
            epoch bigint NOT NULL DEFAULT 0,
            watermark timestamptz,
            idle boolean NOT NULL DEFAULT false,
            idle_until timestamptz,
            PRIMARY KEY (topic, partition)
        ) WITH (fillfactor = 50);
        COMMENT ON COLUMN partition_watermarks.idle_until IS
            'idle is a lease that the owner renews; a partition whose lease ran out is not idle';

        CREATE TABLE replayed_rises (
            partition integer NOT NULL,
            next_offset bigint NOT NULL,
            watermark timestamptz NOT NULL,
            PRIMARY KEY (partition, next_offset, watermark)
        );
        COMMENT ON TABLE replayed_rises IS
            'rises of watermarks that an earlier warehouse recorded, until their offsets are passed again';

        CREATE TABLE sale_identities (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            partition integer NOT NULL,
            expires timestamptz NOT NULL,
            identities bytea STORAGE EXTERNAL NOT NULL
        );
        COMMENT ON TABLE sale_identities IS
            'sales whose windows are held, one row a batch: transaction ids, event times, stores (duplicates.py)';
        CREATE INDEX sale_identities_partition ON sale_identities (partition, expires);

        CREATE TABLE warehouse_id (id uuid PRIMARY KEY);
        COMMENT ON TABLE warehouse_id IS 'tells what this warehouse published from what another one did';
        -- A UUID of version 7: it begins with the time (retail_stream/warehouse/ids.py).
        INSERT INTO warehouse_id SELECT encode(set_bit(set_bit(overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6
        ), 52, 1), 53, 1), 'hex')::uuid;

        CREATE TABLE outbox (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            topic text NOT NULL,
            partition integer,
            key bytea,
            value bytea,
            headers jsonb NOT NULL,
            timestamp_ms bigint NOT NULL
        );
        COMMENT ON TABLE outbox IS
            'records for Kafka, written with the results that they tell of; published in the order of id, then deleted';
        COMMENT ON COLUMN outbox.headers IS 'a list of [name, value in hex]';
    """)
    op.execute(f"""
        CREATE VIEW sales_enriched AS
        SELECT f.*,
               c.customer_sk, c.name AS customer_name, c.email AS customer_email, c.loyalty_points,
               p.product_sk, p.name AS product_name, p.category, p.brand,
               s.store_sk, s.name AS store_name, s.manager
        FROM fact_sales f
        {_as_of("customer", "c")}
        {_as_of("product", "p")}
        {_as_of("store", "s")}
    """)
    op.execute("""
        CREATE VIEW sales_by_category_window AS
        SELECT w.window_size, w.window_start, w.window_end, coalesce(p.category, 'Unknown') AS category,
               sum(w.transactions)::bigint AS transactions, sum(w.units_sold)::bigint AS units_sold,
               sum(w.units_returned)::bigint AS units_returned, sum(w.gross_sales) AS gross_sales,
               sum(w.returns_amount) AS returns_amount, sum(w.discounts) AS discounts, sum(w.taxes) AS taxes,
               sum(w.net_sales) AS net_sales
        FROM sales_by_product_window w
        LEFT JOIN LATERAL (
            SELECT v.category FROM dim_products v
            WHERE v.product_id = w.product_id
            ORDER BY (v.valid_from <= w.window_start AND (v.valid_to IS NULL OR v.valid_to > w.window_start)) DESC,
                     v.valid_from
            LIMIT 1
        ) p ON true
        GROUP BY w.window_size, w.window_start, w.window_end, coalesce(p.category, 'Unknown')
    """)


def _as_of(name: str, alias: str) -> str:
    """SQL that joins the last version with valid_from <= event_time, or the first version for an older sale.

    A version that ended before event_time does not match: in a gap after a delete there is none. Each lookup is one
    step into the index, whatever the length of the history.
    """
    versions = f"SELECT v.* FROM dim_{name}s v WHERE v.{name}_id = f.{name}_id"
    return f"""
        LEFT JOIN LATERAL (
            ({versions} AND v.valid_from <= f.event_time ORDER BY v.valid_from DESC LIMIT 1)
            UNION ALL
            ({versions} ORDER BY v.valid_from LIMIT 1)
            ORDER BY valid_from DESC LIMIT 1
        ) {alias} ON {alias}.valid_from > f.event_time OR {alias}.valid_to IS NULL OR {alias}.valid_to > f.event_time
    """
