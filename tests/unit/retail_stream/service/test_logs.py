"""Logs: one event a line, of every library, of crashes too; and no record's values in them."""

import json
import os
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, text

from retail_stream.errors import SettingsError
from retail_stream.service import logs
from retail_stream.warehouse.postgres import engine

PROGRAM = """
import logging, threading, warnings
import structlog
from retail_stream.service import logs
logs.configure("cleaner")
structlog.get_logger("a").info("partitions", owned=[1, 2], note="one\\ntwo", why="a\\x1b[31mred", id="\\u202eabc")
logging.getLogger("other").warning("a library\\nsays %s", "\\x1b[31mthis")
warnings.warn("old")
def broken():
    raise ValueError("in a thread")
thread = threading.Thread(target=broken, name="outbox")
thread.start()
thread.join()
raise RuntimeError("at the end\\x1b[31m")
"""


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60)


def test_json_is_one_object_a_line_whatever_happens():
    done = run(LOG_FORMAT="json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [e["event"].splitlines()[0].partition(":")[0] for e in events if "old" not in e["event"]] == [
        "partitions",
        "a library",
        "thread crashed",
        "crashed",
    ]
    assert any("old" in e["event"] for e in events)
    assert {e["service"] for e in events} == {"cleaner"}
    assert all(e["level"] and e["timestamp"].endswith("Z") for e in events)
    assert events[0]["owned"] == [1, 2]
    assert "ValueError: in a thread" in events[-2]["exception"]
    assert "RuntimeError: at the end" in events[-1]["exception"]
    assert (done.returncode, done.stdout) == (1, "")


def test_text_is_readable_and_the_default():
    done = run()
    first, second, *_ = done.stderr.splitlines()
    assert "partitions" in first
    assert "owned=[1, 2]" in first
    assert "service=cleaner" in first
    assert r"note='one\ntwo'" in first
    assert r"a library\nsays \x1b[31mthis" in second
    assert r"why=a\x1b[31mred" in first
    assert r"id=\u202eabc" in first
    assert r"RuntimeError: at the end\x1b[31m" in done.stderr
    assert "\x1b" not in done.stderr


def test_another_format_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(SettingsError, match="LOG_FORMAT='xml' is not a known value; allowed: text or json"):
        logs.configure("cleaner")


SERVICES = ("services.generator", "services.cleaner", "services.scd_merger", "services.aggregator")


def mains(*names: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The `main` of these packages, one after the other in one process: most of the time goes into imports."""
    servers = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1",
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
    }
    called = f"[importlib.import_module(f'{{name}}.__main__').main() for name in {names}]"
    return subprocess.run(
        [sys.executable, "-c", f"import importlib\nprint({called})"],
        env={**os.environ, **servers, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_service_with_a_wrong_format_stops_with_the_sentence():
    done = mains(*SERVICES, "commands.dashboard", LOG_FORMAT="xml")
    assert done.stdout == "[2, 2, 2, 2, 2]\n"
    assert done.stderr == "LOG_FORMAT='xml' is not a known value; allowed: text or json.\n" * 5


def test_a_service_that_cannot_listen_stops_with_the_sentence():
    done = mains(*SERVICES[1:], METRICS_HOST="no.such.invalid")
    assert done.stdout == "[2, 2, 2]\n"
    assert done.stderr.count("METRICS_HOST='no.such.invalid' cannot be listened on") == 3
    assert "Traceback" not in done.stderr


def test_an_error_of_the_database_does_not_tell_the_values():
    # As SQLAlchemy raises it, of an engine with our settings: no server is needed for what it prints.
    assert engine("postgresql://127.0.0.1:1/x").hide_parameters
    with (
        pytest.raises(Exception, match="no such table") as broken,
        create_engine("sqlite://", hide_parameters=True).connect() as connection,
    ):
        connection.execute(text("INSERT INTO secrets VALUES (:email)"), {"email": "ada@example.com"})
    assert "ada@example.com" not in str(broken.value)


def test_a_traceback_holds_the_first_line_of_each_message() -> None:
    code = """
from psycopg import errors
from retail_stream.service import logs
logs.configure("merger")
try:
    raise errors.NotNullViolation("null value in column a\\nDETAIL:  Failing row contains (secret,\\nsecret).")
except errors.NotNullViolation as e:
    raise RuntimeError("no batch\\nsecret") from e
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "why='RuntimeError, which nothing here expects'" in done.stderr.splitlines()[0]
    assert "NotNullViolation: null value in column a\n" in done.stderr
    assert "RuntimeError: no batch\n" in done.stderr
    assert "secret" not in done.stderr.replace(code, "")
