"""`make doctor`: its checks of versions, amounts and ports; and that it needs nothing but Python."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from commands import doctor
from commands.embedded.settings import EmbeddedSettings
from commands.raw_subjects import raw_subjects
from tests.harness.registry import JSON, Answer, answering, as_json, error

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("20.10.24+dfsg1", (20, 10, 24)),
        ("v2.40.3-desktop.1", (2, 40, 3)),
        ("5.1", (5, 1)),
        ("dev", ()),
        ("", ()),
    ],
)
def test_a_version_is_read_up_to_the_first_part_that_is_not_a_number(text: str, numbers: tuple[int, ...]) -> None:
    assert doctor.version(text) == numbers


def test_a_version_or_an_amount_that_is_too_small_is_named_with_what_is_needed() -> None:
    assert doctor.at_least("Docker", "20.10.0", (20, 10)).good
    assert str(doctor.at_least("Docker", "19.3", (20, 10))) == "  ✗ Docker 19.3: needs 20.10 or newer"
    assert doctor.enough("memory", 2e9, 2e9).good
    assert str(doctor.enough("memory", 1.25e9, 2e9)) == "  ✗ 1.2 GB of memory: needs 2.0 GB"


def test_a_port_that_is_taken_is_named_with_the_variable_that_chooses_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        wanted = {"KAFKA_PORT": (29092, "Kafka")}
        (taken,) = doctor.ports(wanted, {"KAFKA_PORT": str(port)}, replaced=True)
        assert (taken.good, taken.hint) == (False, False)
        assert "KAFKA_PORT=<port>" in taken.cure
        (default,) = doctor.ports({"KAFKA_PORT": (port, "Kafka")}, {}, replaced=True)
        assert (default.good, default.hint, default.cure) == (False, True, "a free one will be used")
        assert [f.good for f in doctor.ports(wanted, {"KAFKA_PORT": str(port)}, ours=[port])] == [True]
    assert [f.good for f in doctor.ports(wanted, {"KAFKA_PORT": str(port)})] == [True]
    assert [f.good for f in doctor.ports(wanted, {"KAFKA_PORT": "many"})] == [False]


def test_two_servers_on_one_port_are_named() -> None:
    wanted = {"A": (20001, "a"), "B": (20001, "b")}
    assert [f.cure for f in doctor.ports(wanted, {}) if not f.good] == [
        "it is also the port of A; choose different ports"
    ]


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# KAFKA_PORT=1\nKAFKA_PORT='2'\nREGISTRY_PORT=3\n")
    assert doctor.settings(file, {"REGISTRY_PORT": "4"}) == {"KAFKA_PORT": "2", "REGISTRY_PORT": "4"}
    assert doctor.settings(tmp_path / "none", {}) == {}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=1", "1"),
        ("  export X = 1 ", "1"),
        ("X=1 # why", "1"),
        ("X=a#b", "a#b"),
        ("X='a # b' # why", "a # b"),
        ('X="a b"', "a b"),
        ("X=", ""),
        ("X= # nothing", ""),
        ("X=a=b", "a=b"),
        ("#X=1", None),
        (" # X=1", None),
        ("X", None),
    ],
)
def test_lines_of_the_file_are_read_as_compose_reads_them(line: str, value: str | None, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"A=1\n{line}\nZ=2\n")
    assert doctor.settings(file, {}).get("X") == value
    assert doctor.settings(file, {}).items() >= {"A": "1", "Z": "2"}.items()


def test_files_that_containers_could_not_read_are_named(tmp_path: Path) -> None:
    script = tmp_path / "docker" / "start.sh"
    rules = tmp_path / "observability" / "rules.yml"
    for file, mode in ((script, 0o755), (rules, 0o644)):
        file.parent.mkdir()
        file.parent.chmod(0o755)
        file.touch()
        file.chmod(mode)
    assert doctor.unreadable(tmp_path).good
    script.chmod(0o744)
    rules.chmod(0o640)
    assert not doctor.unreadable(tmp_path).good
    assert doctor.unreadable(tmp_path).what.endswith(": docker/start.sh, observability/rules.yml")


def test_its_ports_are_those_that_the_servers_use() -> None:
    embedded = {name.upper(): field.default for name, field in EmbeddedSettings.model_fields.items() if "port" in name}
    assert {name: port for name, (port, _) in doctor.EMBEDDED_PORTS.items()} == embedded
    published: dict[str, int] = {}
    for file in ("docker-compose.yml", "docker-compose.three-brokers.yml"):
        text = (ROOT / file).read_text()
        published |= {name: int(port) for name, port in re.findall(r'"127\.0\.0\.1:\$\{(\w+):-(\d+)\}:\d+"', text)}
    looked_at = {**doctor.COMPOSE_PORTS, **doctor.OPTIONAL_PORTS}
    assert {name: port for name, (port, _) in looked_at.items()} == published


def test_a_port_that_is_needed_for_an_extra_only_is_a_hint() -> None:
    assert str(doctor.Finding(False, "port 3000 is taken", "choose another", hint=True)) == (
        "  · port 3000 is taken: choose another"
    )


@pytest.mark.parametrize(
    ("mode", "cost"),
    [
        ("FULL_TRANSITIVE", ""),
        ("BACKWARD", "a producer may remove a required field or make it nullable"),
        ("NONE", "a producer may change or remove any field"),
        ("STRANGE", "its meaning is not known here"),
    ],
)
def test_raw_subjects_whose_mode_is_loose_are_named_with_what_that_can_cost(mode: str, cost: str) -> None:
    def answers(method: str, path: str) -> Answer:
        if path == "/subjects/stores.raw-value/versions":
            return as_json([1])
        return as_json({"compatibilityLevel": mode}) if path.startswith("/config/stores") else error(40401)

    with answering(answers) as url:
        (found,) = raw_subjects(url)
    assert found.what == f"stores.raw-value has the compatibility mode {mode}"
    assert (found.good, found.hint) == (not cost, True)
    assert not cost or (
        found.cure.startswith(cost) and found.cure.endswith("`retail-stream init` sets FULL_TRANSITIVE")
    )


@pytest.mark.parametrize("answer", [(200, "text/html", b"<html>"), (403, JSON, b""), as_json([1, 2])])
def test_a_registry_that_does_not_answer_is_a_hint_without_its_password(answer: Answer) -> None:
    with answering(lambda method, path: answer) as url:
        (found,) = raw_subjects(url)
    assert not found.good
    assert found.hint
    assert "ss@" not in str(found)


def test_it_needs_nothing_but_python() -> None:
    program = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import commands.doctor"]
    assert subprocess.run(program, cwd=ROOT, capture_output=True, text=True).stderr == ""
