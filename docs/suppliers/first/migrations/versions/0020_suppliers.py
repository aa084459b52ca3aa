"""The dimension of suppliers."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Both tables have the fields of the clean schema; the database itself refuses a wrong history."""
    op.execute("""
        CREATE TABLE pipeline.suppliers_changes (
            supplier_id integer NOT NULL,
            last_update_time timestamptz NOT NULL,
            deleted boolean NOT NULL,
            name text COLLATE "C",
            country text COLLATE "C",
            contact text COLLATE "C",
            lead_time_days integer,
            rating double precision,
            preferred boolean,
            contract_end timestamptz,
            extra json,
            PRIMARY KEY (supplier_id, last_update_time)
        );
        CREATE INDEX suppliers_changes_extra ON pipeline.suppliers_changes (supplier_id) WHERE extra IS NOT NULL;

        CREATE TABLE dim_suppliers (
            supplier_sk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            supplier_id integer NOT NULL,
            name text COLLATE "C" NOT NULL,
            country text COLLATE "C" NOT NULL,
            contact text COLLATE "C",
            lead_time_days integer NOT NULL,
            rating numeric(14, 2) NOT NULL,
            preferred boolean NOT NULL,
            contract_end timestamptz NOT NULL,
            last_update_time timestamptz GENERATED ALWAYS AS (valid_from) STORED,
            valid_from timestamptz NOT NULL,
            valid_to timestamptz,
            is_current boolean GENERATED ALWAYS AS (valid_to IS NULL) STORED,
            UNIQUE (supplier_id, valid_from),
            CONSTRAINT dim_suppliers_not_empty CHECK (valid_from < valid_to)
        );
        CREATE UNIQUE INDEX dim_suppliers_one_open ON dim_suppliers (supplier_id) WHERE valid_to IS NULL;
        CREATE TRIGGER one_writer BEFORE INSERT OR UPDATE ON dim_suppliers
            FOR EACH STATEMENT EXECUTE FUNCTION pipeline.one_history_writer();
        CREATE TRIGGER no_overlap_inserted AFTER INSERT ON dim_suppliers REFERENCING NEW TABLE AS changed
            FOR EACH STATEMENT EXECUTE FUNCTION pipeline.refuse_overlap('supplier_id');
        CREATE TRIGGER no_overlap_updated AFTER UPDATE ON dim_suppliers REFERENCING NEW TABLE AS changed
            FOR EACH STATEMENT EXECUTE FUNCTION pipeline.refuse_overlap('supplier_id');

        CREATE VIEW suppliers_current AS SELECT * FROM dim_suppliers WHERE valid_to IS NULL;
        CREATE FUNCTION suppliers_as_of(moment timestamptz, key integer DEFAULT NULL) RETURNS SETOF dim_suppliers
            LANGUAGE sql STABLE PARALLEL SAFE AS '
            SELECT * FROM (
                SELECT * FROM dim_suppliers WHERE supplier_id = key AND valid_from <= moment
                ORDER BY valid_from DESC LIMIT 1
            ) last WHERE valid_to > moment OR valid_to IS NULL
            UNION ALL
            SELECT * FROM dim_suppliers
            WHERE key IS NULL AND valid_from <= moment AND (valid_to > moment OR valid_to IS NULL)';

        COMMENT ON TABLE pipeline.suppliers_changes IS 'the change of each supplier that won each moment';
        COMMENT ON TABLE dim_suppliers IS 'one row per version, valid in [valid_from, valid_to)';
        COMMENT ON VIEW suppliers_current IS 'the open versions of dim_suppliers';
        COMMENT ON FUNCTION suppliers_as_of IS 'the versions of dim_suppliers that were valid at a moment';
    """)
