"""Projects of the tests are their own, whatever is exported where the tests run."""

import subprocess
from pathlib import Path

import pytest

from tests.harness.containers import Project


def test_what_is_exported_chooses_no_other_project_and_no_other_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    exported = {"COMPOSE_PROJECT_NAME": "retail-stream", "COMPOSE_PROFILES": "observability", "KAFKA_PORT": "29092"}
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    calls: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append((command, env))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    project = Project(tmp_path, {"IDLE_TIMEOUT_S": "5"})
    with project.here():
        project("up", IDLE_TIMEOUT_S="7")
        project.logs()
    assert [command[command.index("--project-name") + 1] for command, _ in calls] == [project.name] * 3
    assert [env["IDLE_TIMEOUT_S"] for _, env in calls] == ["7", "5", "5"]
    for _, env in calls:
        assert env["KAFKA_PORT"] == str(project.ports.kafka)
        assert not {name for name in env if name.startswith("COMPOSE_")}


def test_a_password_of_any_characters_has_its_place_in_a_url(tmp_path: Path):
    project = Project(tmp_path, {"POSTGRES_PASSWORD": "p@ss/%w"})
    assert project.env["DATABASE_URL"].startswith("postgresql://retail:p%40ss%2F%25w@127.0.0.1:")
