"""`docker compose up` of the whole file, two replicas of each service: what it is made of, and that kills cost nothing.

One story in the order of this file; the pipeline is running all the while.
"""

import json
import subprocess
from urllib.request import urlopen

import pytest

from retail_stream.pipeline import Service

from ..containers import eventually
from .conftest import SECRETS, Whole

SERVERS = ("kafka", "postgres", "registry")
SERVICES = tuple(Service)
PAGE = "dashboard"
VOLUMES = ("kafka", "postgres", "postgres-socket")
GB = 10**9
#: A Docker with 4 GB has a little less to give.
LIMITS = 3.75 * GB


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def inspect(*ids: str) -> list[dict]:
    return json.loads(docker("inspect", *ids))


def test_a_sale_that_was_published_is_in_the_warehouse_and_verify_agrees(whole: Whole):
    whole.flows_on()
    report = whole.verify()
    assert report.ok, report.failed


def test_every_part_runs_as_often_as_it_was_scaled(whole: Whole):
    running = {service: len(whole.project.containers(service)) for service in (*SERVERS, *SERVICES)}
    assert running == {**dict.fromkeys((*SERVERS, "generator"), 1), "cleaner": 2, "scd_merger": 2, "aggregator": 2}


@pytest.mark.parametrize("part", [*SERVERS, *SERVICES, PAGE])
def test_nothing_runs_as_root_or_can_write_where_it_need_not(whole: Whole, part: str):
    ids = whole.project("exec", "-T", part, "sh", "-c", "cat /proc/1/status | grep -E '^(Uid|CapEff|NoNewPrivs)'")
    found = dict(line.split(":", 1) for line in ids.splitlines())
    assert "0" not in found["Uid"].split()
    assert int(found["CapEff"], 16) == 0
    assert found["NoNewPrivs"].split() == ["1"]
    refused = whole.project("exec", "-T", part, "sh", "-c", "touch /etc/x /usr/x /app/x 2>&1 || true")
    assert refused.count("Read-only file system") >= 2, refused


def test_ports_are_published_on_loopback_only(whole: Whole):
    published = [
        binding
        for container in inspect(*whole.project.containers())
        for bindings in (container["HostConfig"]["PortBindings"] or {}).values()
        for binding in bindings
    ]
    assert {binding["HostIp"] for binding in published} == {"127.0.0.1"}
    assert len(published) == len((*SERVERS, PAGE))


def test_a_check_of_health_with_all_its_times_watches_every_part(whole: Whole):
    for container in inspect(*whole.project.containers()):
        image = inspect(container["Image"])[0]["Config"].get("Healthcheck") or {}
        check = {**image, **(container["Config"].get("Healthcheck") or {})}
        assert all(check.get(time) for time in ("Interval", "Timeout", "StartPeriod", "Retries")), container["Name"]
        assert container["State"]["Health"]["Status"] == "healthy"


def test_secrets_are_only_where_they_are_needed(whole: Whole):
    for container in inspect(*whole.project.containers()):
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        told = json.dumps(container["Config"]["Env"])
        known = {name for name, secret in SECRETS.items() if secret in told}
        wanted = {"kafka": set(), "postgres": set(SECRETS), "registry": {"REGISTRY_PASSWORD"}}
        assert known == wanted.get(service, {"POSTGRES_PASSWORD"}), service


@pytest.mark.parametrize("service", [*SERVICES, PAGE])
def test_images_hold_no_secret_and_no_build_tool(whole: Whole, service: str):
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", f"retail-stream/{service}")
    assert not [word for word in ("password", "secret", "token", "://", *SECRETS.values()) if word in history.lower()]
    tools = (
        "for tool in gcc cc g++ make cargo git; do command -v $tool; done; ls /venv/bin | grep -E '^(pip|uvx?$)'; true"
    )
    assert whole.project("exec", "-T", service, "sh", "-c", tools) == ""


def test_limits_fit_a_docker_of_4_gb_and_less_than_2_gb_are_used(whole: Whole):
    config = json.loads(whole.project("config", "--format", "json"))["services"]
    assert sum(int(config[part]["mem_limit"]) for part in (*SERVERS, *SERVICES, PAGE)) < LIMITS
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *whole.project.containers())
    assert sum(_bytes(line.partition("/")[0]) for line in used.splitlines()) < 2 * GB


def _bytes(text: str) -> float:
    number = text.strip().rstrip("GMKiB")
    return float(number) * {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}[text.strip()[len(number) :]]


def test_kafkas_own_tools_and_ours_answer(whole: Whole):
    listed = whole.project(
        "exec", "-T", "kafka", "/opt/kafka/bin/kafka-topics.sh", "--bootstrap-server", "kafka:9092", "--list"
    )
    assert {"sales.raw", "sales.clean", "sales.dlq", "sales.windows"} <= set(listed.split())
    groups = whole.project("run", "--rm", "-T", "console", "sh", "-c", "kafka-consumer-groups.sh $KAFKA --list")
    assert {"cleaner", "scd_merger", "aggregator"} <= set(groups.split())
    tailed = whole.project(
        "run", "--rm", "-T", "commands", "tail", "sales.clean", "--from-beginning", "--max-messages", "1"
    )
    assert json.loads(tailed.splitlines()[-1])["value"]["transaction_id"] > 0
    facts = whole.project(
        "exec", "-T", "postgres", "psql", "-U", "retail", "-At", "-c", "SELECT count(*) FROM fact_sales"
    )
    assert int(facts) > 0


def test_the_page_sees_every_replica(whole: Whole):
    wanted = {"generator": 1, "cleaner": 2, "scd_merger": 2, "aggregator": 2}

    def ready() -> dict[str, int]:
        with urlopen(f"http://127.0.0.1:{whole.project.page}/api/look", timeout=10) as answer:
            look = json.load(answer)
        assert not look["problems"]
        return {row["name"]: row["ready"] for row in look["services"]}

    eventually(lambda: ready() == wanted, lambda: f"the page sees {ready()}")


@pytest.mark.parametrize("part", [*SERVICES, *SERVERS])
def test_what_is_killed_under_load_and_brought_up_again_goes_on(whole: Whole, part: str):
    whole.project("kill", "--signal", "KILL", part)
    whole.up()
    whole.flows_on()


def test_after_all_kills_the_warehouse_is_what_the_raw_topics_say(whole: Whole):
    report = whole.verify()
    assert report.ok, report.failed


def test_a_replica_that_leaves_and_one_that_comes_change_nothing(whole: Whole):
    whole.up(aggregator=1, cleaner=1, scd_merger=3)
    whole.flows_on()
    whole.up(aggregator=3)
    whole.flows_on()


def test_services_stop_cleanly_within_their_grace_period(whole: Whole):
    whole.project("stop", "generator")
    whole.eventually(lambda s: s.drained, "the pipeline drains")
    report = whole.verify()
    assert report.ok, report.failed
    whole.project("stop", *SERVICES, PAGE)
    for container in inspect(*whole.project.containers(all_=True)):
        if container["Config"]["Labels"]["com.docker.compose.service"] in (*SERVICES, PAGE):
            assert container["State"]["ExitCode"] == 0, container["Name"]
            assert not container["State"]["OOMKilled"]


def test_down_leaves_nothing_behind(whole: Whole):
    def left(*what: str) -> set[str]:
        return set(docker(*what, "--quiet", "--filter", mine).split())

    mine = f"label=com.docker.compose.project={whole.project.name}"
    mounted = {m["Name"] for c in inspect(*whole.project.containers(all_=True)) for m in c["Mounts"] if "Name" in m}
    whole.project("down")
    assert left("ps", "--all") | left("network", "ls") == set()
    # Every volume is one that the file names: an image's own, without a name, would stay for ever.
    assert mounted == left("volume", "ls") == {f"{whole.project.name}_{v}" for v in VOLUMES}
    whole.project("down", "--volumes")
    assert left("volume", "ls") == set()
