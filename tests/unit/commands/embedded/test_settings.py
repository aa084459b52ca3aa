"""The embedded stack's settings: defaults, ports, and one sentence for a wrong one."""

import socket
from pathlib import Path

import pytest

from commands.embedded.console_tools import with_bootstrap
from commands.embedded.errors import EmbeddedError, PortTaken
from commands.embedded.maven import LOCK_FILE, format_lock, read_lock
from commands.embedded.settings import EmbeddedSettings, Ports, is_free, variable_of
from retail_stream.errors import SettingsError
from retail_stream.settings import load


def test_a_wrong_port_is_one_sentence_with_variable_value_and_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_STREAM_KAFKA_PORT", "80")
    with pytest.raises(SettingsError) as caught:
        load(EmbeddedSettings)
    sentence = str(caught.value)
    assert "RETAIL_STREAM_KAFKA_PORT" in sentence
    assert "80" in sentence
    assert "from 1024 to 65535" in sentence


def test_a_taken_port_that_a_variable_chose_is_one_error_with_its_variable() -> None:
    ports, said = Ports.free(), list[str]()
    defaults = set(Ports.model_fields) - {"registry"}
    with socket.create_server(("127.0.0.1", ports.registry)), pytest.raises(PortTaken) as caught:
        ports.available(defaults, said.append)
    assert str(caught.value).startswith(
        f"RETAIL_STREAM_REGISTRY_PORT={ports.registry}: this port on 127.0.0.1 is taken"
    )
    assert said == []


def test_a_taken_default_port_is_replaced_by_a_free_one_and_named() -> None:
    ports, said = Ports.free(), list[str]()
    with socket.create_server(("127.0.0.1", ports.registry)):
        available = ports.available(Ports.model_fields, said.append)
    assert available.registry not in {port for _, port in ports}
    assert is_free(available.registry)
    assert available == ports.model_copy(update={"registry": available.registry})
    assert said == [
        f"Port {ports.registry} on 127.0.0.1 is taken; using {available.registry} instead. "
        "RETAIL_STREAM_REGISTRY_PORT=<port> chooses another."
    ]


def test_ports_that_no_variable_chose_are_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Ports.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)
    monkeypatch.setenv("RETAIL_STREAM_KAFKA_PORT", "29092")
    assert load(EmbeddedSettings).default_ports == set(Ports.model_fields) - {"kafka"}


def test_two_servers_cannot_have_one_port() -> None:
    ports = Ports.free()
    same = ports.model_copy(update={"postgres": ports.kafka})
    with pytest.raises(EmbeddedError, match="RETAIL_STREAM_POSTGRES_PORT"):
        same.available()


def test_a_default_port_that_a_variable_gave_to_another_server_is_replaced() -> None:
    ports = Ports.free()
    same = ports.model_copy(update={"postgres": ports.kafka})
    available = same.available({"kafka"})
    assert available.postgres == ports.kafka
    assert available.kafka not in {port for _, port in ports}


def test_free_ports_differ_and_are_free() -> None:
    ports = Ports.free()
    assert ports.available() == ports
    assert len({port for _, port in ports}) == 5


def test_an_ordinary_user_has_state_and_cache_where_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for variable in ("RETAIL_STREAM_HOME", "RETAIL_STREAM_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere/state")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, so to be ignored")
    settings = load(EmbeddedSettings)
    assert settings.home == Path("/somewhere/state/retail-stream")
    assert settings.cache == Path.home() / ".cache" / "retail-stream"


def test_the_lock_file_is_what_is_written_from_its_entries() -> None:
    text = LOCK_FILE.read_text()
    entries = read_lock(text)
    assert format_lock(entries) == text
    assert {len(sha256) for sha256 in entries.values()} == {64}
    assert "io.apicurio:apicurio-registry-app:tar.gz:all:3.3.3" in map(str, entries)


@pytest.mark.parametrize(
    ("arguments", "environment", "running", "expected"),
    [
        (["--list"], {"KAFKA_BOOTSTRAP_SERVERS": "a:1"}, {}, ["--bootstrap-server", "a:1", "--list"]),
        (["--list"], {}, {"KAFKA_BOOTSTRAP_SERVERS": "b:2"}, ["--bootstrap-server", "b:2", "--list"]),
        (["--bootstrap-server", "c:3"], {"KAFKA_BOOTSTRAP_SERVERS": "a:1"}, {}, ["--bootstrap-server", "c:3"]),
        (["--bootstrap-server=c:3"], {"KAFKA_BOOTSTRAP_SERVERS": "a:1"}, {}, ["--bootstrap-server=c:3"]),
        (["--help"], {"KAFKA_BOOTSTRAP_SERVERS": "a:1"}, {}, ["--help"]),
        (["--list"], {}, {}, ["--list"]),
    ],
)
def test_a_console_tool_gets_the_broker_unless_the_user_names_one(
    arguments: list[str], environment: dict[str, str], running: dict[str, str], expected: list[str]
) -> None:
    assert with_bootstrap(arguments, environment, running) == expected
