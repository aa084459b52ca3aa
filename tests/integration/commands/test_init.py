"""`retail-stream init` several times at once, and on a registry that other people use: what it says of looser modes."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from structlog.testing import capture_logs

from commands.init import initialise
from commands.verify.catalogue import CATALOGUE, declared
from retail_stream.avro.registry import Registry, SchemaRefused
from retail_stream.topics import TOPICS, topic
from tests.harness.servers import Servers, bare, init_settings_of

SUBJECT = "stores.raw-value"
STRANGE = {"type": "record", "name": "Store", "namespace": "retail_stream", "fields": [{"name": "x", "type": "int"}]}


def test_every_subject_gets_its_mode_and_a_looser_one_of_a_raw_subject_is_named(empty_stack: Servers) -> None:
    settings = init_settings_of(empty_stack)
    registry = Registry(settings.schema_registry_url)
    # Whatever modes earlier tests left.
    initialise(settings)
    registry.set_mode(SUBJECT, "BACKWARD")
    with capture_logs() as logs:
        initialise(settings)
        initialise(settings)
    modes = {t.name.rpartition(".")[2]: registry.mode(t.subject) for t in TOPICS if t.schema_file is not None}
    assert modes == {
        "raw": "FULL_TRANSITIVE",
        "clean": "NONE",
        **dict.fromkeys(("late", "windows", "watermarks", "faults"), "BACKWARD"),
    }
    (named,) = [entry for entry in logs if entry["event"] == "subject changed"]
    assert (named["subject"], named["was"], named["log_level"]) == (SUBJECT, "BACKWARD", "warning")
    assert "become dead letters" in named["cost"]


def test_an_incompatible_schema_is_refused_and_one_that_came_under_a_looser_mode_does_not_stop_init(
    empty_stack: Servers,
) -> None:
    settings = init_settings_of(empty_stack)
    registry = Registry(settings.schema_registry_url)
    initialise(settings)
    nullable = topic("stores.raw").schema()
    nullable["fields"][1]["type"] = ["null", "string"]
    with pytest.raises(SchemaRefused, match="refuses the schema"):
        registry.register(SUBJECT, nullable)
    registry.register(SUBJECT, STRANGE, "NONE")
    initialise(settings)
    assert registry.mode(SUBJECT) == "FULL_TRANSITIVE"


def test_several_at_once_on_new_servers_make_everything_once(empty_stack: Servers) -> None:
    connections = bare(empty_stack)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(initialise, init_settings_of(empty_stack)) for _ in range(3)]:
            done.result(120)
    registry = Registry(connections.schema_registry_url)
    assert all(len(registry.versions(t.subject)) == 1 for t in TOPICS if t.schema_file is not None)
    with psycopg.connect(connections.database_url, options="-c search_path=pipeline,public") as connection:
        assert dict(connection.execute(CATALOGUE).fetchall()) == declared()
