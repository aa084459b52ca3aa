"""deploy/kubernetes: valid by the published schemas; settings, ports, probes and limits as in the compose file."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from commands.init import InitSettings
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.topics import Group
from services.aggregator.settings import AggregatorSettings
from tests.unit.test_compose_file import OURS, PARTS, ROOT, SETTINGS, YAML

FOLDER = ROOT / "deploy" / "kubernetes"
BASE, PRODUCTION, SCALING = FOLDER / "base", FOLDER / "overlays" / "production", FOLDER / "components" / "lag-scaling"
#: The oldest release of Kubernetes that gets fixes, and the newest whose schemas the package ships.
RELEASES = ("1.35", kubernetes_validate.latest_version())
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text())
RESOURCES: list[dict[str, Any]] = [
    doc for name in KUSTOMIZATION["resources"] for doc in yaml.safe_load_all((BASE / name).read_text())
]
#: By the name of the service in the compose file.
WORKLOADS = {r["metadata"]["name"].replace("-", "_"): r for r in RESOURCES if r["kind"] in ("Deployment", "Job")}


def pod(name: str) -> dict[str, Any]:
    return WORKLOADS[name]["spec"]["template"]["spec"]


def container(name: str) -> dict[str, Any]:
    (only,) = pod(name)["containers"]
    return only


def settings(*files: Path) -> dict[str, str]:
    lines = [line for file in files for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize("release", RELEASES)
def test_every_resource_is_what_the_published_schemas_allow(release: str) -> None:
    assert len(RESOURCES) > 10
    others = [yaml.safe_load((PRODUCTION / "namespace.yaml").read_text())]
    for resource in RESOURCES + others:
        kubernetes_validate.validate(resource, release, strict=True)


def test_a_resource_that_the_schemas_do_not_allow_is_noticed() -> None:
    wrong = yaml.safe_load((BASE / "cleaner.yaml").read_text().partition("\n---")[0])
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


@pytest.mark.parametrize("folder", [BASE, PRODUCTION], ids=lambda f: f.name)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="There is no kubectl on the PATH.")
def test_kustomize_makes_the_same_of_it_and_it_is_valid(folder: Path) -> None:
    made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=True)
    resources = list(yaml.safe_load_all(made.stdout))
    assert {r["kind"] for r in resources} >= {"Deployment", "Job", "Service", "ConfigMap", "PodDisruptionBudget"}
    for resource in resources:
        if not resource["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(resource, RELEASES[-1], strict=True)
    named = {r["metadata"]["name"] for r in resources if r["kind"] == "ConfigMap"}
    asked = re.findall(r"configMapRef:\n +name: (\S+)", made.stdout)
    assert set(asked) == named, "each has a name that changes with its contents, and is asked for by it"


def test_the_programs_are_those_of_the_compose_file_from_the_same_images() -> None:
    assert WORKLOADS.keys() == SETTINGS.keys()
    for name in WORKLOADS:
        assert container(name)["image"] == PARTS[name]["image"].replace(OURS, "retail-stream/")
    assert container("init")["command"] == PARTS["init"]["command"]
    images = yaml.safe_load((PRODUCTION / "kustomization.yaml").read_text())["images"]
    assert {image["name"] for image in images} == {container(name)["image"] for name in WORKLOADS}
    assert all(image["newTag"] != "latest" for image in images)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_has_the_limits_of_the_container_and_its_rights(name: str) -> None:
    part, mine = PARTS[name], container(name)
    number, unit, mebi = (
        part["mem_limit"][:-1],
        part["mem_limit"][-1],
        mine["resources"]["limits"]["memory"].removesuffix("Mi"),
    )
    assert int(mebi) == int(number) * {"m": 1, "g": 1024}[unit]
    assert mine["resources"]["requests"]["memory"] == mine["resources"]["limits"]["memory"], (
        "none is evicted for memory"
    )
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    own, security = pod(name)["securityContext"], mine["securityContext"]
    assert (own["runAsUser"], own["runAsGroup"]) == tuple(map(int, user.groups()))
    # What the level `restricted` of the pod security standards asks for, and a file system that cannot be written.
    assert own["runAsNonRoot"]
    assert own["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["capabilities"] == {"drop": part["cap_drop"]}
    assert security["readOnlyRootFilesystem"] is part["read_only"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert [m["mountPath"] for m in mine["volumeMounts"]] == part["tmpfs"]
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["enableServiceLinks"] is False


@pytest.mark.parametrize("name", [n for n in WORKLOADS if n != "init"])
def test_probes_ask_where_the_image_s_health_check_asks_as_often(name: str) -> None:
    check = re.search(
        r"--interval=(\d+)s --timeout=(\d+)s --start-period=(\d+)s --retries=(\d+)", (ROOT / "Dockerfile").read_text()
    )
    assert check is not None
    interval, timeout, start, retries = map(int, check.groups())
    mine = container(name)
    (port,) = mine["ports"]
    environment = {**YAML["x-servers"], **PARTS[name]["environment"]}
    assert port["containerPort"] == environment["METRICS_PORT"]
    shown = {e["name"]: e.get("value") for e in mine["env"]}
    assert shown.get("DASHBOARD_PORT" if name == "dashboard" else "METRICS_PORT") == str(port["containerPort"])
    live, ready, startup = (mine[f"{kind}Probe"] for kind in ("liveness", "readiness", "startup"))
    assert (live["periodSeconds"], live["timeoutSeconds"], live["failureThreshold"]) == (interval, timeout, retries)
    assert startup["periodSeconds"] * startup["failureThreshold"] == start
    assert {p["httpGet"]["port"] for p in (live, ready, startup)} == {port["name"]}
    assert live["httpGet"]["path"] == startup["httpGet"]["path"] == "/healthz"
    # The page works while services and servers are down.
    assert ready["httpGet"]["path"] == ("/healthz" if name == "dashboard" else "/readyz")
    grace = int(PARTS[name]["stop_grace_period"].removesuffix("s"))
    assert pod(name)["terminationGracePeriodSeconds"] == grace


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_program_gets_settings_that_it_knows_and_secrets_apart(name: str) -> None:
    refs = container(name)["envFrom"]
    maps = [ref["configMapRef"]["name"] for ref in refs if "configMapRef" in ref]
    files = {g["name"]: [BASE / f for f in g["envs"]] for g in KUSTOMIZATION["configMapGenerator"]}
    production = yaml.safe_load((PRODUCTION / "kustomization.yaml").read_text())["configMapGenerator"]
    over = {g["name"]: [PRODUCTION / f for f in g["envs"]] for g in production}
    given = settings(*(file for m in maps for file in [*files[m], *over.get(m, [])]))
    # SASL needs its user and password, which are a secret.
    secret = {"KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p"}
    own = {e["name"]: e.get("value", "postgresql://u:p@h/d") for e in container(name)["env"]}
    values = {k.lower(): v for k, v in {**given, **secret, **own}.items() if v and k.lower() != "log_format"}
    known = {f.lower() for f in SETTINGS[name].model_fields} | {"metrics_host"}
    assert set(values) <= known
    SETTINGS[name].model_validate({k: v for k, v in values.items() if k in SETTINGS[name].model_fields})
    assert "password" not in "".join(map(str.lower, given)), "no secret stands in a ConfigMap"


def test_settings_that_stand_there_are_the_defaults_and_those_of_the_compose_file() -> None:
    given = {name: value for f in (BASE / "settings").glob("*.env") for name, value in settings(f).items()}
    example = settings(ROOT / ".env.example")
    for name, value in given.items():
        assert example.get(name, value) == value, name
    defaults = AggregatorSettings(
        kafka_bootstrap_servers="k:1", schema_registry_url="http://r", database_url="postgresql://h/d"
    )
    for name, value in settings(BASE / "settings" / "aggregator.env").items():
        assert str(getattr(defaults, name.lower())).removesuffix(".0") == value, name
    assert given["TOPIC_PARTITIONS"] == str(InitSettings.model_fields["topic_partitions"].default)
    theirs = PARTS["dashboard"]["environment"]["DASHBOARD_SERVICES"]
    assert given["DASHBOARD_SERVICES"] == theirs.replace("scd_merger:", "scd-merger:")


def test_services_and_budgets_select_the_pods_of_their_name() -> None:
    names = {name.replace("_", "-") for name in WORKLOADS} - {"init"}
    services = {r["metadata"]["name"]: r["spec"] for r in RESOURCES if r["kind"] == "Service"}
    assert services.keys() == names
    for name, spec in services.items():
        assert spec["selector"] == {"app.kubernetes.io/name": name}
        (port,), (own,) = spec["ports"], container(name.replace("-", "_"))["ports"]
        assert (port["targetPort"], port["port"]) == (own["name"], own["containerPort"])
    budgets = {r["metadata"]["name"] for r in RESOURCES if r["kind"] == "PodDisruptionBudget"}
    assert budgets == {n for n in names if WORKLOADS[n.replace("-", "_")]["spec"]["replicas"] > 1}
    assert WORKLOADS["generator"]["spec"]["replicas"] == 1, "a second one would end the first"
    assert WORKLOADS["generator"]["spec"]["strategy"] == {"type": "Recreate"}


def test_replicas_by_lag_are_of_the_groups_and_their_topics_and_never_more_than_partitions() -> None:
    scaled = [
        d for d in yaml.safe_load_all((SCALING / "scaled-objects.yaml").read_text()) if d["kind"] == "ScaledObject"
    ]
    read = {
        Group.CLEANER: {topics.raw(Entity.SALES)},
        Group.SCD_MERGER: {topics.clean(e) for e in DIMENSIONS},
        Group.AGGREGATOR: {topics.clean(Entity.SALES)},
    }
    partitions = settings(PRODUCTION / "init.env")["TOPIC_PARTITIONS"]
    seen = {}
    for spec in (d["spec"] for d in scaled):
        triggers = [t["metadata"] for t in spec["triggers"]]
        (group,) = {t["consumerGroup"] for t in triggers}
        assert spec["scaleTargetRef"]["name"].replace("-", "_") == group
        assert str(spec["maxReplicaCount"]) == partitions
        seen[Group(group)] = {t["topic"] for t in triggers}
    assert seen == read
