"""Facts have a partition for each month, made ahead of time; one that is detached is archived."""

from alembic import op
from sqlalchemy import text

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Record the partitions, make months from now on, and give the sales of the default partition one of their own.

    Days that have a partition keep it. In a month with such days, the other days get one each.
    """
    op.execute("""
        CREATE TABLE fact_partitions (
            first_day date PRIMARY KEY,
            after_day date NOT NULL CHECK (after_day > first_day),
            partition regclass NOT NULL,
            name text NOT NULL
        );
        COMMENT ON TABLE fact_partitions IS
            'every partition that fact_sales ever had; one that is not attached is archived: its sales are not stored';
        COMMENT ON COLUMN fact_partitions.first_day IS 'its first day in UTC, inclusive';
        COMMENT ON COLUMN fact_partitions.after_day IS 'the end of its days, exclusive';
        COMMENT ON COLUMN fact_partitions.partition IS 'the table, also after it was renamed or moved';
        COMMENT ON COLUMN fact_partitions.name IS 'the name that it was made with';
        COMMENT ON TABLE fact_sales IS
            'every distinct clean sale; a partition for each month in UTC, made ahead of its first sale';

        INSERT INTO fact_partitions
        SELECT day, day + 1, c.oid, c.relname
        FROM pg_class c, LATERAL (SELECT to_date(substr(c.relname, 12), 'YYYY_MM_DD') AS day) d
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname ~ '^fact_sales_[0-9]{4}_[0-9]{2}_[0-9]{2}$';

        CREATE FUNCTION make_fact_partition(day date) RETURNS void
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
        DECLARE
            unit text;
            first date;
            after date;
            label text;
        BEGIN
            PERFORM pg_advisory_xact_lock('fact_sales'::regclass::int, 0);
            IF EXISTS (SELECT FROM fact_partitions WHERE day >= first_day AND day < after_day) THEN
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
                EXIT WHEN NOT EXISTS (SELECT FROM fact_partitions WHERE first < after_day AND after > first_day);
            END LOOP;
            -- ATTACH to a parent without a default partition blocks no reader; CREATE TABLE ... PARTITION OF would.
            EXECUTE format('CREATE TABLE %I (LIKE fact_sales INCLUDING ALL)', label);
            EXECUTE format('ALTER TABLE fact_sales ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           label, first::timestamptz, after::timestamptz);
            INSERT INTO fact_partitions VALUES (first, after, label::regclass, label);
        END $$;
        REVOKE ALL ON FUNCTION make_fact_partition FROM PUBLIC;
        COMMENT ON FUNCTION make_fact_partition IS
            'Makes the partition of fact_sales for a day, if there never was one: its month; outside of 2000 to 2099 '
            'its century; where others overlap these, the day. Runs as its owner, for roles that own nothing.';
    """)
    connection = op.get_bind()
    default = connection.execute(
        text("""
            SELECT partdefid::regclass::text FROM pg_partitioned_table
            WHERE partrelid = 'fact_sales'::regclass AND partdefid <> 0
        """)
    ).scalar_one_or_none()
    if default is None:
        return
    op.execute(f"ALTER TABLE fact_sales DETACH PARTITION {default}")
    days = text(f"SELECT DISTINCT (event_time AT TIME ZONE 'UTC')::date FROM {default} ORDER BY 1")
    for day in connection.execute(days).scalars().all():
        connection.execute(text("SELECT make_fact_partition(:day)"), {"day": day})
    op.execute(f"INSERT INTO fact_sales SELECT * FROM {default}; DROP TABLE {default}")
