"""The program: its commands, its version, and where its servers come from."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands import cli
from commands.embedded.home import Home, Running
from commands.settings import start
from retail_stream.errors import SettingsError
from retail_stream.settings import Connections

ENV = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:2",
    "DATABASE_URL": "postgresql://u@127.0.0.1:3/d",
}


def test_every_command_explains_itself() -> None:
    listed = CliRunner().invoke(cli.app, ["--help"]).output
    for name in ("demo", "up", "init", "verify", "rebuild", "score", "status", "tail", "dlq", "dashboard", "infra"):
        assert f" {name} " in listed
        assert CliRunner().invoke(cli.app, [name, "--help"]).exit_code == 0


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"retail-stream {version('retail-stream')}\n")


def test_help_imports_no_client() -> None:
    program = (
        "import sys, commands.cli; print([m for m in ('confluent_kafka', 'sqlalchemy', 'polars') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state directory that says that a stack runs."""
    for name in Connections.model_fields:
        monkeypatch.setenv(name.upper(), "")
        monkeypatch.delenv(name.upper())
    home = Home(tmp_path)
    monkeypatch.setenv("RETAIL_STREAM_HOME", str(tmp_path))
    monkeypatch.setattr("commands.embedded.home.check_reach", lambda path: None)
    home.make()
    assert home.lock("supervisor") is not None
    home.write_running(Running(os.getpid(), ENV, ready=True))


def test_the_running_embedded_stack_is_used_if_no_variable_names_a_server(running: None) -> None:
    assert start("test", Connections).database_url == ENV["DATABASE_URL"]


@pytest.mark.parametrize(
    ("name", "value"), [("DATABASE_URL", "postgresql://other@127.0.0.1:9/d"), ("KAFKA_SECURITY_PROTOCOL", "SSL")]
)
def test_one_variable_about_the_servers_switches_the_embedded_stack_off(
    running: None, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP_SERVERS is not set"):
        start("test", Connections)
