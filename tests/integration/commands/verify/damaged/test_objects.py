"""`verify` names every view, function and object of the catalogue that is not as declared."""

from sqlalchemy import text

from commands.verify import catalogue
from retail_stream.entities import DIMENSIONS
from tests.harness.servers import copied_database
from tests.integration.commands.verify import damages, families
from tests.integration.commands.verify.alterations import altering
from tests.integration.commands.verify.damaged.checking import checked, connected, require_named
from tests.integration.commands.verify.expectations import (
    ABSENT,
    KEYS_OF_VIEWS,
    VIEWS,
    Damage,
)


def test_every_column_of_every_view_and_every_function_is_compared(done):
    made = []
    with copied_database(done) as copy:
        with connected(copy) as connection:
            shown = [t for t in damages.columns(connection) if t.kind == "v"]
            assert {t.relation for t in shown} == VIEWS.keys()
            for view, line in VIEWS.items():
                targets = [t for t in shown if t.relation == view]
                rows = connection.execute(text(f"SELECT count(*) FROM public.{view}")).scalar_one()
                damages.spoil_view(connection, view, targets, rows)
                for t in targets:
                    is_key = t.name in KEYS_OF_VIEWS.get(view, ())
                    made.append(Damage(f"{view}.{t.name}", [line], ABSENT if is_key else [f"{t.name} expected"]))
            for entity in DIMENSIONS:
                key = f"{entity.removesuffix('s')}_id"
                connection.exec_driver_sql(f"""
                    CREATE OR REPLACE FUNCTION {entity}_as_of(moment timestamptz, key integer DEFAULT NULL)
                    RETURNS SETOF dim_{entity} LANGUAGE sql STABLE AS
                    'SELECT * FROM dim_{entity}
                     WHERE (key IS NULL OR {key} = key) AND (valid_to > moment OR valid_to IS NULL)'
                """)
                made.append(Damage(f"{entity}_as_of", [f"{entity}_as_of"], ["should not be there"]))
        checks = checked(copy)
    assert len(made) >= families.SHOWN.at_least
    require_named(checks, made, ["tables as declared"])


def test_the_catalogue_has_every_object(done):
    """If a migration changed one: DATABASE_URL=… python -m commands.verify.catalogue > migrations/catalogue.json."""
    with connected(done) as connection:
        there = {row.object: row.detail for row in connection.exec_driver_sql(catalogue.CATALOGUE.replace("%", "%%"))}
    assert there == catalogue.declared()


def test_every_object_of_the_catalogue_is_compared(done):
    made = []
    with copied_database(done) as copy:
        with connected(copy) as connection:
            # Constraints before the columns that they need.
            for kind in ("trigger", "constraint", "index", "function", "comment", "grant", "column"):
                for thing in catalogue.declared():
                    if thing.startswith(f"{kind} ") and (statement := altering(connection, thing)):
                        connection.exec_driver_sql(statement.replace("%", "%%"))
                        made.append(Damage(thing, ["tables as declared"], [f"'{thing}'"]))
            connection.exec_driver_sql(
                "CREATE TRIGGER stranger BEFORE INSERT ON dim_stores FOR EACH STATEMENT"
                " EXECUTE FUNCTION one_history_writer()"
            )
            made.append(Damage("a trigger more", ["tables as declared"], ["dim_stores.stranger': should not be there"]))
        checks = checked(copy)
    assert len(made) >= families.CATALOGUE.at_least
    require_named(checks, made, ["triggers and keys"])
