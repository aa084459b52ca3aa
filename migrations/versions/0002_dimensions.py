"""Slowly changing dimensions of type 2, and the changes that they are made of."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the three dimensions; constraints refuse empty and overlapping versions."""
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    op.execute("""
        CREATE TABLE customers_changes (
            customer_id integer NOT NULL,
            last_update_time timestamptz NOT NULL,
            deleted boolean NOT NULL,
            name text COLLATE "C",
            email text COLLATE "C",
            address text COLLATE "C",
            join_date timestamptz,
            loyalty_points integer,
            phone_number text COLLATE "C",
            age integer,
            gender text COLLATE "C",
            PRIMARY KEY (customer_id, last_update_time)
        );
        CREATE TABLE dim_customers (
            customer_sk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            customer_id integer NOT NULL,
            name text COLLATE "C" NOT NULL,
            email text COLLATE "C" NOT NULL,
            address text COLLATE "C" NOT NULL,
            join_date timestamptz NOT NULL,
            loyalty_points integer NOT NULL,
            phone_number text COLLATE "C" NOT NULL,
            age integer NOT NULL,
            gender text COLLATE "C" NOT NULL,
            last_update_time timestamptz GENERATED ALWAYS AS (valid_from) STORED,
            valid_from timestamptz NOT NULL,
            valid_to timestamptz,
            is_current boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED,
            UNIQUE (customer_id, valid_from),
            CONSTRAINT dim_customers_not_empty CHECK (valid_from < valid_to),
            CONSTRAINT dim_customers_no_overlap
                EXCLUDE USING gist (customer_id WITH =, tstzrange(valid_from, valid_to) WITH &&)
        );
    """)
    op.execute("""
        CREATE TABLE products_changes (
            product_id integer NOT NULL,
            last_update_time timestamptz NOT NULL,
            deleted boolean NOT NULL,
            name text COLLATE "C",
            category text COLLATE "C",
            brand text COLLATE "C",
            price double precision,
            stock_quantity integer,
            size text COLLATE "C",
            color text COLLATE "C",
            description text COLLATE "C",
            PRIMARY KEY (product_id, last_update_time)
        );
        CREATE TABLE dim_products (
            product_sk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            product_id integer NOT NULL,
            name text COLLATE "C" NOT NULL,
            category text COLLATE "C" NOT NULL,
            brand text COLLATE "C" NOT NULL,
            price numeric(14, 2) NOT NULL,
            stock_quantity integer NOT NULL,
            size text COLLATE "C" NOT NULL,
            color text COLLATE "C" NOT NULL,
            description text COLLATE "C" NOT NULL,
            last_update_time timestamptz GENERATED ALWAYS AS (valid_from) STORED,
            valid_from timestamptz NOT NULL,
            valid_to timestamptz,
            is_current boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED,
            UNIQUE (product_id, valid_from),
            CONSTRAINT dim_products_not_empty CHECK (valid_from < valid_to),
            CONSTRAINT dim_products_no_overlap
                EXCLUDE USING gist (product_id WITH =, tstzrange(valid_from, valid_to) WITH &&)
        );
    """)
    op.execute("""
        CREATE TABLE stores_changes (
            store_id integer NOT NULL,
            last_update_time timestamptz NOT NULL,
            deleted boolean NOT NULL,
            name text COLLATE "C",
            address text COLLATE "C",
            manager text COLLATE "C",
            open_date timestamptz,
            status text COLLATE "C",
            phone_number text COLLATE "C",
            PRIMARY KEY (store_id, last_update_time)
        );
        CREATE TABLE dim_stores (
            store_sk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            store_id integer NOT NULL,
            name text COLLATE "C" NOT NULL,
            address text COLLATE "C" NOT NULL,
            manager text COLLATE "C" NOT NULL,
            open_date timestamptz NOT NULL,
            status text COLLATE "C" NOT NULL,
            phone_number text COLLATE "C" NOT NULL,
            last_update_time timestamptz GENERATED ALWAYS AS (valid_from) STORED,
            valid_from timestamptz NOT NULL,
            valid_to timestamptz,
            is_current boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED,
            UNIQUE (store_id, valid_from),
            CONSTRAINT dim_stores_not_empty CHECK (valid_from < valid_to),
            CONSTRAINT dim_stores_no_overlap
                EXCLUDE USING gist (store_id WITH =, tstzrange(valid_from, valid_to) WITH &&)
        );
    """)
    for entity in ("customers", "products", "stores"):
        op.execute(f"""
            COMMENT ON TABLE {entity}_changes IS
                'the change that won each moment of each key, as it was on {entity}.clean; a late one may split by it';
            COMMENT ON TABLE dim_{entity} IS
                'one row per version, valid in [valid_from, valid_to); an open version has no valid_to';
        """)
