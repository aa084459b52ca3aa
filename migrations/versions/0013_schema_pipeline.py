"""What the services keep for themselves is in the schema `pipeline`; `public` holds what analysts read."""

from alembic import op
from sqlalchemy import text

revision = "0013"
down_revision = "0012"

_TABLES = (
    "consumer_positions",
    "stored_settings",
    "replays",
    "customers_changes",
    "products_changes",
    "stores_changes",
    "stream_watermark",
    "partition_watermarks",
    "replayed_rises",
    "sale_identities",
    "fact_partitions",
    "stored_before",
    "warehouse_id",
    "outbox",
)
_FUNCTIONS = ("one_history_writer()", "refuse_overlap()", "make_fact_partition(date)")


def upgrade() -> None:
    """Move tables and functions with their rights; make two views of what people need to know of them.

    A role that has rights on a moved table, the readers' aside, gets USAGE of the schema.
    """
    bind = op.get_bind()
    if bind.execute(text("SELECT to_regclass('pipeline.warehouse_id') IS NOT NULL")).scalar_one():
        # Its tables in `public` were dropped, and the version with them: what is left belongs to no warehouse.
        op.execute("DROP SCHEMA pipeline CASCADE")
    # Not IF NOT EXISTS, which asks for the right to create one all the same.
    if bind.execute(text("SELECT to_regnamespace('pipeline') IS NULL")).scalar_one():
        op.execute("CREATE SCHEMA pipeline")
    for table in _TABLES:
        op.execute(f"ALTER TABLE public.{table} SET SCHEMA pipeline")
    for function in _FUNCTIONS:
        op.execute(f"ALTER FUNCTION public.{function} SET SCHEMA pipeline")
    op.execute("""
        DO $$
        DECLARE
            role text;
        BEGIN
            FOR role IN
                SELECT DISTINCT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.relnamespace = 'pipeline'::regnamespace AND a.grantee NOT IN (0, c.relowner)
                  AND a.grantee::regrole::text <> 'retail_stream_reader'
            LOOP
                EXECUTE 'GRANT USAGE ON SCHEMA pipeline TO ' || role;
            END LOOP;
        END $$;

        CREATE VIEW public.consumer_positions AS
        SELECT consumer_group, topic, partition, epoch, next_offset, source_offset, updated_at
        FROM pipeline.consumer_positions;

        CREATE VIEW public.pipeline_state AS
        SELECT (SELECT watermark FROM pipeline.stream_watermark WHERE topic = 'sales.clean') AS watermark,
               (SELECT count(*) FROM pipeline.outbox) AS outbox,
               (SELECT count(*) FROM pipeline.partition_watermarks WHERE idle AND idle_until > now())
                   AS idle_partitions,
               (SELECT value FROM pipeline.stored_settings WHERE name = 'SALES_WINDOWS') AS sales_windows,
               (SELECT value FROM pipeline.stored_settings WHERE name = 'ALLOWED_LATENESS_S')::double precision
                   AS allowed_lateness_s;

        CREATE OR REPLACE FUNCTION pipeline.make_fact_partition(day date) RETURNS void
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
        DECLARE
            unit text;
            first date;
            after date;
            label text;
        BEGIN
            PERFORM pg_advisory_xact_lock('fact_sales'::regclass::int, 0);
            IF EXISTS (SELECT FROM pipeline.fact_partitions WHERE day >= first_day AND day < after_day) THEN
                RETURN;
            END IF;
            FOREACH unit IN ARRAY ARRAY['century', 'month', 'day'] LOOP
                CONTINUE WHEN unit = 'century' AND extract(year FROM day) BETWEEN 2000 AND 2099;
                first := CASE unit
                    WHEN 'century' THEN make_date(extract(year FROM day)::int / 100 * 100, 1, 1)
                    ELSE date_trunc(unit, day::timestamp)::date END;
                after := first + ('1 ' || unit)::interval;
                label := 'fact_sales_' || to_char(first, CASE unit
                    WHEN 'century' THEN 'YYYY"s"' WHEN 'month' THEN 'YYYY_MM' ELSE 'YYYY_MM_DD' END);
                EXIT WHEN NOT EXISTS (
                    SELECT FROM pipeline.fact_partitions WHERE first < after_day AND after > first_day);
            END LOOP;
            -- ATTACH to a parent without a default partition blocks no reader; CREATE TABLE ... PARTITION OF would.
            EXECUTE format('CREATE TABLE %I (LIKE fact_sales INCLUDING ALL)', label);
            EXECUTE format('COMMENT ON TABLE %I IS %L', label,
                           format('the facts of fact_sales from %s to %s, exclusive, in UTC', first, after));
            EXECUTE format('ALTER TABLE fact_sales ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           label, first::timestamptz, after::timestamptz);
            INSERT INTO pipeline.fact_partitions VALUES (first, after, label::regclass, label);
        END $$;
    """)
