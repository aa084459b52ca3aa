"""`docker compose up` of the whole file, two replicas of each service: what it is made of, and that kills cost nothing.

One story in the order of this file; the pipeline is running all the while.
"""

import json
import os
import subprocess
from urllib.request import urlopen

import pytest
from confluent_kafka.admin import NewTopic

from commands.demo.pipeline import Service
from retail_stream.kafka import clients
from tests.compose.conftest import SCALED, SECRETS, Whole
from tests.harness.containers import ROOT
from tests.harness.eventually import PATIENCE_S, eventually

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


def test_a_command_with_other_settings_makes_nothing_anew(whole: Whole):
    def there() -> set[tuple[str, str]]:
        return {(c["Id"], c["State"]["StartedAt"]) for c in inspect(*whole.project.containers(all_=True))}

    was = there()
    said = whole.project("run", "--rm", "-T", "commands", "status", "--once", KAFKA_PORT="1025", POSTGRES_PORT="1026")
    assert "cleaner" in said
    assert there() == was


def test_kafka_keeps_no_log_files_in_memory_and_tools_have_a_heap_of_their_own(whole: Whole):
    broker = whole.project("exec", "-T", "kafka", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline")
    assert "-Xmx384m" in broker
    assert "kafka-log4j2.yaml" in broker
    assert "-Xlog:gc" not in broker
    files = whole.project("exec", "-T", "kafka", "sh", "-c", "find /tmp -type f -not -path '/tmp/hsperfdata*'").split()
    assert [file for file in files if file.endswith((".log", ".out")) or "/server.log" in file] == []
    assert whole.project("exec", "-T", "kafka", "printenv", "KAFKA_HEAP_OPTS").strip() == "-Xmx96m"


def test_compressed_records_pass_the_broker_and_the_console(whole: Whole):
    """Both unpack a library for it into /tmp; the broker, as it has to compress in another way than the producer."""
    admin = clients.admin(whole.connections)
    admin.create_topics([NewTopic("compressed", 1, 1, config={"compression.type": "zstd"})])["compressed"].result(30)
    lines = (
        "echo something | kafka-console-producer.sh $KAFKA --topic compressed --compression-codec snappy",
        "kafka-console-consumer.sh $KAFKA --topic compressed --from-beginning --max-messages 1 --timeout-ms 60000",
    )
    said = whole.project("run", "--rm", "-T", "console", "sh", "-c", " && ".join(lines))
    admin.delete_topics(["compressed"])["compressed"].result(30)
    assert "something" in said.splitlines()


def sees_every_replica(whole: Whole) -> None:
    """The page answers, knows of no problem, and of as many replicas of each service as there are."""
    wanted = {"generator": 1, **SCALED}

    def ready() -> dict[str, int]:
        try:
            with urlopen(f"http://127.0.0.1:{whole.project.page}/api/look", timeout=10) as answer:
                look = json.load(answer)
        except OSError:
            return {}
        # A page that has just started has not read every part yet.
        return {} if look["problems"] else {row["name"]: row["ready"] for row in look.get("services", ())}

    eventually(lambda: ready() == wanted, lambda: f"the page sees {ready()}", PATIENCE_S)


def test_the_page_sees_every_replica(whole: Whole):
    sees_every_replica(whole)


def test_one_replica_of_each_pair_is_killed_and_the_other_takes_over_its_partitions(whole: Whole):
    for service in SCALED:
        docker("kill", "--signal", "KILL", whole.project.containers(service)[0])
    was = whole.positions()

    def behind() -> list[tuple[str, str, int]]:
        now = whole.positions()
        return [place for place, offset in was.items() if now.get(place, 0) <= offset]

    eventually(lambda: not behind(), lambda: f"something goes on at {behind()}\n{whole.project.logs()}", PATIENCE_S)
    assert {service: len(whole.project.containers(service)) for service in SCALED} == dict.fromkeys(SCALED, 1)


def test_services_killed_under_load_and_brought_up_again_go_on(whole: Whole):
    for service in SCALED:
        whole.project("kill", "--signal", "KILL", service)
        whole.again(service)
    whole.flows_on()


@pytest.mark.parametrize("part", ["generator", *SERVERS])
def test_what_is_killed_under_load_and_brought_up_again_goes_on(whole: Whole, part: str):
    whole.project("kill", "--signal", "KILL", part)
    whole.again(part)
    whole.flows_on()


def test_the_page_is_killed_and_brought_up_again(whole: Whole):
    whole.project("kill", "--signal", "KILL", PAGE)
    whole.again(PAGE)
    sees_every_replica(whole)


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
    whole.until(lambda s: s.drained, "the pipeline drains")
    # As people do it: in the container, with its memory and its place to spill to.
    assert "checks passed" in whole.project("run", "--rm", "-T", "commands", "verify").splitlines()[-1]
    whole.project("stop", *SERVICES, PAGE)
    for container in inspect(*whole.project.containers(all_=True)):
        if container["Config"]["Labels"]["com.docker.compose.service"] in (*SERVICES, PAGE):
            assert container["State"]["ExitCode"] == 0, container["Name"]
            assert not container["State"]["OOMKilled"]


def test_where_init_fails_its_sentence_is_shown(whole: Whole):
    settings = {**whole.project.settings, "COMPOSE_PROJECT_NAME": whole.project.name, "TOPIC_PARTITIONS": "0"}
    done = subprocess.run(
        [ROOT / "docker" / "up.sh", "--no-build", "generator"],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith(
        "init: retail-stream: TOPIC_PARTITIONS='0' is out of range; allowed:"
    )


def test_a_generator_that_has_made_its_sales_is_not_started_again(whole: Whole):
    arguments = ("up", "--detach", "--no-build", "--no-deps", "generator")
    whole.project(*arguments, GENERATOR_MAX_SALES="20")
    (generator,) = whole.project.containers("generator", all_=True)
    # One that Docker starts again is `restarting` from the moment of its end.
    eventually(lambda: inspect(generator)[0]["State"]["Status"] == "exited", whole.project.logs, PATIENCE_S)
    state, restarts = inspect(generator)[0]["State"], inspect(generator)[0]["RestartCount"]
    assert (state["Status"], state["ExitCode"], restarts) == ("exited", 0, 0)


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
