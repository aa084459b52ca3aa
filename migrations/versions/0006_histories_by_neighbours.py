"""B-tree indexes and triggers guard the histories, in place of the exclusion constraints.

A GiST index lost entries when two transactions wrote to it side by side (docs/decisions/0004); an exclusion constraint
does not see a version that is missing in its index. A dimension with such an overlap is emptied, and the merger fills
it again from the topic.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create two trigger functions, and for each dimension its triggers and an index for one open version per key."""
    op.execute("""
        CREATE FUNCTION one_history_writer() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
                RAISE feature_not_supported USING MESSAGE = format(
                    '%s is written in READ COMMITTED: a %s transaction does not see what it has to be compared with',
                    TG_TABLE_NAME, upper(current_setting('transaction_isolation')));
            END IF;
            PERFORM pg_advisory_xact_lock(TG_RELID::int, 0);
            RETURN NULL;
        END $$;
        COMMENT ON FUNCTION one_history_writer IS
            'Writers of a dimension take turns, so that refuse_overlap() sees whatever the others have written.';

        CREATE FUNCTION refuse_overlap() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            wrong record;
        BEGIN
            EXECUTE format('
                SELECT c.%1$I AS key, c.valid_from FROM changed c
                WHERE (
                    SELECT coalesce(b.valid_to, ''infinity'') FROM %2$s b
                    WHERE b.%1$I = c.%1$I AND b.valid_from < c.valid_from ORDER BY b.valid_from DESC LIMIT 1
                ) > c.valid_from OR (
                    SELECT a.valid_from FROM %2$s a
                    WHERE a.%1$I = c.%1$I AND a.valid_from > c.valid_from ORDER BY a.valid_from LIMIT 1
                ) < coalesce(c.valid_to, ''infinity'')
                LIMIT 1', TG_ARGV[0], TG_RELID::regclass) INTO wrong;
            IF wrong.key IS NOT NULL THEN
                RAISE exclusion_violation USING
                    MESSAGE = format('%s of %s, the version of %s: overlaps its neighbour (%s_no_overlap)',
                                     TG_ARGV[0], wrong.key, wrong.valid_from, TG_TABLE_NAME),
                    CONSTRAINT = TG_TABLE_NAME || '_no_overlap', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA;
            END IF;
            RETURN NULL;
        END $$;
        COMMENT ON FUNCTION refuse_overlap IS
            'Compares the versions that a statement wrote (transition table changed) with their neighbours of the same '
            'natural key, its argument.';
    """)
    for entity, key in (("customers", "customer_id"), ("products", "product_id"), ("stores", "store_id")):
        op.execute(f"""
            ALTER TABLE dim_{entity} DROP CONSTRAINT dim_{entity}_no_overlap;
            DO $$ BEGIN
                IF EXISTS (
                    SELECT FROM (
                        SELECT valid_to, lead(valid_from) OVER (PARTITION BY {key} ORDER BY valid_from) AS next
                        FROM dim_{entity}
                    ) versions WHERE coalesce(valid_to, 'infinity') > next
                ) THEN
                    TRUNCATE dim_{entity}, {entity}_changes;
                    DELETE FROM consumer_positions WHERE consumer_group = 'scd_merger' AND topic = '{entity}.clean';
                    DELETE FROM replays WHERE consumer_group = 'scd_merger' AND topic = '{entity}.clean';
                END IF;
            END $$;
            CREATE UNIQUE INDEX dim_{entity}_one_open ON dim_{entity} ({key}) WHERE valid_to IS NULL;
            CREATE TRIGGER one_writer BEFORE INSERT OR UPDATE ON dim_{entity}
                FOR EACH STATEMENT EXECUTE FUNCTION one_history_writer();
            CREATE TRIGGER no_overlap_inserted AFTER INSERT ON dim_{entity} REFERENCING NEW TABLE AS changed
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_overlap('{key}');
            CREATE TRIGGER no_overlap_updated AFTER UPDATE ON dim_{entity} REFERENCING NEW TABLE AS changed
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_overlap('{key}');
        """)
