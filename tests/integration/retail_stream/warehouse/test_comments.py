"""Everything in the warehouse says what it is."""

from sqlalchemy import Engine, text

UNCOMMENTED = text("""
    WITH ours AS (SELECT unnest(ARRAY['public'::regnamespace, 'pipeline'::regnamespace]) AS schema),
    relations AS (
        SELECT oid, oid::regclass::text AS name FROM pg_class JOIN ours ON relnamespace = schema
        WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
    )
    SELECT 'schema ' || schema FROM ours WHERE obj_description(schema::oid, 'pg_namespace') IS NULL
    UNION ALL
    SELECT name FROM relations WHERE obj_description(oid, 'pg_class') IS NULL
    UNION ALL
    SELECT name || '.' || attname FROM relations JOIN pg_attribute ON attrelid = oid
    WHERE attnum > 0 AND NOT attisdropped AND col_description(oid, attnum) IS NULL
    UNION ALL
    SELECT oid::regprocedure::text FROM pg_proc p JOIN ours ON pronamespace = schema
    WHERE obj_description(oid, 'pg_proc') IS NULL
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    ORDER BY 1
""")


def test_schemas_tables_views_columns_and_functions_have_comments(warehouse: Engine) -> None:
    with warehouse.begin() as connection:
        assert connection.execute(UNCOMMENTED).scalars().all() == []
        connection.execute(text("SELECT make_fact_partition('1066-10-14'); CREATE TABLE odd (x integer)"))
        assert connection.execute(UNCOMMENTED).scalars().all() == ["odd", "odd.x"]


def test_columns_of_a_view_say_what_those_of_its_table_say(warehouse: Engine) -> None:
    differing = text("""
        SELECT v.attrelid::regclass::text || '.' || v.attname
        FROM pg_attribute v
        JOIN (VALUES ('customers_current', 'dim_customers'), ('sales_enriched', 'fact_sales')) p (seen, base)
            ON v.attrelid = seen::regclass
        JOIN pg_attribute t ON t.attrelid = base::regclass AND t.attname = v.attname AND t.attnum > 0
        WHERE col_description(v.attrelid, v.attnum) <> col_description(t.attrelid, t.attnum)
    """)
    with warehouse.connect() as connection:
        assert connection.execute(differing).scalars().all() == []
