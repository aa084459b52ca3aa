"""Alerts and dashboard: valid, and of metrics that there are. (That services expose these is an integration test's.)"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.harness.documented import ROOT, metrics
from tests.harness.tools import tool

FOLDER = ROOT / "observability"
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
#: Labels that every sample gets from Prometheus.
TARGET = {"job", "instance", "service"}
#: What Prometheus and the Python client add, with the labels of each.
OTHERS = {
    "up": set(),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_start_time_seconds": set(),
}
#: Grafana's variable, as long as it may be.
INTERVAL = "$__rate_interval"


def known() -> dict[str, set[str]]:
    """Series → its labels."""
    documented = {
        name: set(m.labels) | ({"le"} if m.kind == "histogram" else set()) for m in metrics() for name in m.samples
    }
    recorded = {rule["record"]: by(rule["expr"]) for rule in RULES if "record" in rule}
    return {**documented, **recorded, **OTHERS}


def panels(dashboard: Path) -> Iterator[dict[str, Any]]:
    for panel in json.loads(dashboard.read_text())["panels"]:
        yield panel
        yield from panel.get("panels", [])


def queries() -> list[tuple[str, str]]:
    """Where, what."""
    of_rules = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in RULES]
    of_panels = [
        (panel["title"], target["expr"])
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel.get("targets", [])
    ]
    return of_rules + of_panels


QUERIES = queries()


def nodes(query: str) -> list[Any]:
    """Of the query's syntax tree. Raises ValueError for what is no query."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(query.replace(INTERVAL, "5m")), pre_visit=found.append)
    return found


def selected(query: str) -> set[str]:
    return {str(node.name) for node in nodes(query) if isinstance(node, promql_parser.VectorSelector)}


def by(query: str) -> set[str]:
    """Labels that it groups by."""
    groups = (node.modifier for node in nodes(query) if isinstance(node, promql_parser.AggregateExpr))
    return {label for group in groups if group is not None for label in group.labels}


def labels(query: str) -> set[str]:
    """Those that it matches or groups by."""
    selectors = (node for node in nodes(query) if isinstance(node, promql_parser.VectorSelector))
    return {matcher.name for selector in selectors for matcher in selector.matchers.matchers} | by(query)


def test_there_are_alerts_and_panels():
    assert len(RULES) > 8
    assert len(QUERIES) > 40


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_a_query_is_of_metrics_and_labels_that_there_are(where: str, query: str):
    names = selected(query)
    assert names, where
    series = known()
    assert names - series.keys() == set()
    assert labels(query) - TARGET - set().union(*(series[name] for name in names)) == set()


def test_a_query_of_what_there_is_not_is_noticed():
    assert selected("sum(rate(cleaner_records[5m])) / no_such") == {"cleaner_records", "no_such"}
    assert labels('sum by (colour) (up{shape="round"})') == {"colour", "shape"}
    with pytest.raises(ValueError, match="unclosed"):
        selected("sum by (entity (rate(x[5m]))")


@pytest.mark.parametrize("rule", [r for r in RULES if "alert" in r], ids=lambda r: r["alert"])
def test_an_alert_says_how_bad_it_is_and_what_and_the_docs_say_what_to_do(rule: dict[str, Any]):
    assert rule["labels"]["severity"] in {"warning", "critical"}
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    there = known()
    assert told <= labels(rule["expr"]) | TARGET | set().union(*(there[name] for name in selected(rule["expr"])))
    assert f"| `{rule['alert']}` |" in (ROOT / "docs" / "observability.md").read_text()
    assert f"alertname: {rule['alert']}\n" in (FOLDER / "rules.test.yml").read_text()


def test_names_say_their_units():
    assert len(metrics()) > 30
    for metric in metrics():
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not re.search(r"_(ms|millis|milliseconds|us|minutes|mb|kb)(_total)?$", metric.name), metric.name


def test_panels_have_titles_descriptions_and_places_of_their_own():
    for dashboard in DASHBOARDS:
        shown = list(panels(dashboard))
        ids = [panel["id"] for panel in shown]
        assert len(ids) == len(set(ids))
        cells = [
            (x, y)
            for panel in shown
            for at in [panel["gridPos"]]
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ]
        assert len(cells) == len(set(cells))
        assert all(panel["title"] and (panel["type"] == "row" or panel["description"]) for panel in shown)


def test_the_data_source_of_panels_is_provisioned():
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    used = {panel["datasource"]["uid"] for path in DASHBOARDS for panel in panels(path) if "datasource" in panel}
    assert used == {source["uid"] for source in sources}


def test_compose_mounts_what_there_is_and_publishes_on_loopback():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mine = {name: s for name, s in services.items() if s.get("profiles") == ["observability"]}
    assert mine.keys() == {"prometheus", "grafana"}
    for service in mine.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        sources = [volume.split(":")[0] for volume in service["volumes"]]
        assert all((ROOT / source).exists() for source in sources if source.startswith("."))
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"][0]["dns_sd_configs"][0]["names"]
    assert set(scraped) <= services.keys()


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "config", "prometheus.local.yml"),
        ("test", "rules", "rules.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(arguments: tuple[str, ...]):
    promtool = tool("promtool", package="prometheus")
    done = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
