"""Suppliers have a certificate."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """A column in both tables, optional like the field; the merger fills it from what came before."""
    op.execute("""
        ALTER TABLE pipeline.suppliers_changes ADD COLUMN certificate text COLLATE "C";
        ALTER TABLE dim_suppliers ADD COLUMN certificate text COLLATE "C";
        CREATE OR REPLACE VIEW suppliers_current AS SELECT * FROM dim_suppliers WHERE valid_to IS NULL;
    """)
