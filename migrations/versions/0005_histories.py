"""Views of current and past versions of dimensions; a column for fields that came before their own columns."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add ``extra`` to the changes, and for each dimension a view and a function of versions."""
    for entity, key in (("customers", "customer_id"), ("products", "product_id"), ("stores", "store_id")):
        op.execute(f"""
            ALTER TABLE {entity}_changes ADD COLUMN extra json;
            COMMENT ON COLUMN {entity}_changes.extra IS
                'fields of a newer schema that have no column yet; the merger moves them once a migration has made one';
            CREATE INDEX {entity}_changes_extra ON {entity}_changes ({key}) WHERE extra IS NOT NULL;

            CREATE VIEW {entity}_current AS SELECT * FROM dim_{entity} WHERE is_current;
            COMMENT ON VIEW {entity}_current IS 'the open versions of dim_{entity}: what last-write-wins would give';
            CREATE FUNCTION {entity}_as_of(moment timestamptz) RETURNS SETOF dim_{entity}
                LANGUAGE sql STABLE PARALLEL SAFE
                AS 'SELECT * FROM dim_{entity} WHERE valid_from <= moment AND (valid_to > moment OR valid_to IS NULL)';
            COMMENT ON FUNCTION {entity}_as_of IS 'the versions of dim_{entity} that were valid at a moment';
        """)
