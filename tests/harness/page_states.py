"""The page without a pipeline: its real server over made-up snapshots, one for each state that it must show well."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from sqlalchemy import create_engine

from commands.dashboard.__main__ import Server, listen
from commands.dashboard.delays import BOUNDS_S
from commands.dashboard.settings import DashboardSettings
from commands.dashboard.trends import Trends
from commands.dashboard.verdict import Verdict, judge
from commands.dashboard.web import Page, app

STATES = ("well", "first minute", "killed", "backlog", "nothing", "away", "large")
#: A name of 100 characters without a place to break it, and one that is written from right to left.
LONG, ARABIC = "Rhein" * 20, "متجر " * 20
#: The name of a rule that a shell would run, if it stood in a command as it is.
SHELL = "odd'; echo $(id) #"
_RULES = (
    ("customers", "email_present", "default"), ("customers", "valid_avro", "reject"),
    ("products", "time_not_future", "reject"), ("sales", "discount_not_negative", "reject"),
    ("sales", "time_not_future", "reject"), ("sales", "valid_avro", "reject"),
    ("stores", "manager_present", "default"), ("stores", "time_not_future", "reject"),
)  # fmt: skip
_SERVICES = ("generator", "cleaner", "scd_merger", "aggregator")
_GONE = "127.0.0.1:9103 does not answer (Connection refused). Its last line: 12:00:07 [error] out of memory"


class States:
    """Stands for ``Snapshots``: the snapshot of one state, with its trends and verdict."""

    def __init__(self, state: str) -> None:
        self.state, self.began = state, time.time()
        self.trends, verdict = Trends(), Verdict()
        samples = {"first minute": 15, "nothing": 0}.get(state, 300)
        for i in range(samples):
            self.trends.add(self.began - 2 * (samples - 1 - i), self.figures(i))
        self._now = self.snapshot()
        self._now |= {"verdict": verdict.update(judge(self._now, self.trends), self.began), "sample": self.trends.last}

    def now(self) -> Mapping[str, Any]:
        # Another time each second, as the real one has: the page draws it anew.
        return {**self._now, "at": time.time()}

    def figures(self, i: int) -> dict[str, float | None]:
        swing = (i * 7919 % 13) / 13
        lag = 40 * i if self.state == "backlog" else 20 + 30 * swing
        figures: dict[str, float | None] = {
            "rate.raw": 60 + 10 * swing, "rate.clean_sales": 46 + 8 * swing, "rate.clean_dimensions": 13 + 4 * swing,
            "rate.dlq": swing, "rate.windows": 2 * swing, "lag.cleaner": 30 + 60 * swing, "lag.scd_merger": 9 * swing,
            "lag.aggregator": lag, "watermark": self.began - 600 + 2 * i, "behind": 12 + swing,
        }  # fmt: skip
        return figures | {f"rule.{' '.join(r)}": swing * (n + 1) / 9 for n, r in enumerate(self.rules())}

    def rules(self) -> tuple[tuple[str, str, str], ...]:
        many = [SHELL, *(f"{LONG[:80]}{n}" for n in range(200))] if self.state == "large" else []
        return (*_RULES, *(("sales", rule, "reject") for rule in many))

    def snapshot(self) -> dict[str, Any]:
        services = [{"name": n, "state": "ready", "ready": 1, "replicas": 1, "why": ""} for n in _SERVICES]
        now: dict[str, Any] = {"at": self.began, "problems": {}, "services": services}
        if self.state == "nothing":
            for service in services:
                service |= {"state": "down", "ready": 0, "why": "127.0.0.1:9101 does not answer (Connection refused)."}
            stream = {"watermark": None, "outbox": 0, "idle_partitions": 0, "allowed_lateness_s": None}
            return {
                **now,
                "rules": [],
                "windows": [],
                "stream": stream,
                "late": 0,
                "letters": {"total": 0, "skipped": 0},
            }
        if self.state == "killed":
            services[2] |= {"state": "down", "ready": 0, "why": _GONE}
        if self.state == "away":
            now["problems"] = {"warehouse": "Postgres at 127.0.0.1:25432/retail does not answer."}
        if self.state == "large":
            services[1] |= {"state": "degraded", "ready": 99, "replicas": 100, "why": f"{LONG * 3} says: {ARABIC}"}
            now["problems"] = {"samples": f"http://127.0.0.1/{LONG * 2} answers with HTTP 500 and an HTML page."}
        figures = (self.trends.last or {})["figures"]
        times = 10**9 if self.state == "large" else 1
        shown = 2 if self.state == "first minute" else 40
        return {
            **now,
            "rules": [
                {"entity": e, "rule": r, "action": a, "total": 9 * n * times}
                for n, (e, r, a) in enumerate(self.rules(), 1)
            ],
            "flow": {n[5:]: {"total": 1000, "per_s": v * times} for n, v in figures.items() if n.startswith("rate.")},
            "lag": {n[4:]: int(v) * times for n, v in figures.items() if n.startswith("lag.")},
            "delays": {"bounds_s": list(BOUNDS_S), "counts": [1284, 243, 286, 22, 21, 45, 28, 70, 1, 0, 0, 0, 0],
                       "sampled": 2000},
            "late": 12 * times, "letters": {"total": 312 * times, "skipped": 0},
            "stream": {"watermark": self.began - 12, "outbox": 0, "idle_partitions": 0, "allowed_lateness_s": 60.0},
            "windows": [{"size": "1m", "rows": windows(self.began, shown)}],
            "groupings": [
                {"name": "store", "sizes": ["1m"], "measures": ["gross_sales", "transactions"]},
                {"name": "payment_method_of_the_customer", "sizes": ["15m"], "measures": ["transactions"]},
            ],
        }  # fmt: skip


def windows(now: float, shown: int) -> list[dict[str, Any]]:
    """The newest windows of a minute: one open, one fired, the others final."""
    newest = now // 60 * 60
    made = []
    for back in range(shown - 1, -1, -1):
        gross = 400_000.0 + 3_000 * (back * 7919 % 13)
        state = "open" if back == 0 else "fired" if back == 1 else "final"
        made.append({
            "start": newest - 60 * back, "end": newest - 60 * back + 60, "transactions": 3000, "units_sold": 5200,
            "units_returned": 120, "gross_sales": gross, "returns_amount": gross / 30, "net_sales": gross * 0.93,
            "revisions": back % 3, "revised": back % 3, "stores": 29, "state": state,
        })  # fmt: skip
    return made


class _Letters:
    total = 312

    def __init__(self, state: str) -> None:
        self.is_large = state == "large"

    def newest(self, entity: object, rule: str | None, most: int) -> list[dict[str, Any]]:
        rules = [f"{LONG[:80]}{n}" for n in range(200)] if self.is_large else [rule or "discount_not_negative"]
        return [
            {"entity": "sales", "origin": f"sales.raw/{i % 4}/{i}", "letter": f"sales.dlq/0/{i}",
             "message": LONG * 10 if self.is_large else "breaks it", "time": "2026-11-30T06:20:14.127+00:00",
             "rules": rules, "key": LONG * 2 if self.is_large else "16",
             "value": {"transaction_id": i, "discount_applied": -2.39}, "value_bytes": 63, "value_hex": "00000001f2"}
            for i in range(min(most, 20))
        ]  # fmt: skip


class _Records:
    def __init__(self, state: str) -> None:
        self.is_large = state == "large"

    def newest(self, topic: str, **asked: Any) -> dict[str, Any]:
        records = [
            {"partition": i % 4, "offset": 5000 - i, "timestamp": "2026-11-30T06:20:14.127Z", "key": str(i),
             "headers": {"source.offset": 5200 - i}, "value": {"transaction_id": i, "store_id": i, "quantity": 1}}
            for i in range(20)
        ]  # fmt: skip
        if self.is_large:
            records = [
                r | {"key": f"{LONG * 2}…", "value": f"{ARABIC * 80}…", "cut": {"value": 10**6}} for r in records
            ]
        return {"records": records, "searched": 480, "whole": False}

    def partitions(self) -> dict[str, Any]:
        number, times = (100, 10**9) if self.is_large else (4, 1)
        rows = [
            {"topic": t, "partition": p, "group": g, "first": 0, "end": 52_000 * times, "position": 51_990 - p}
            for g, t in (("cleaner", "sales.raw"), ("scd_merger", "stores.clean"), ("aggregator", "sales.clean"))
            for p in range(number)
        ]
        return {"rows": rows, "total": 4500 if self.is_large else len(rows)}


@contextmanager
def served(state: str) -> Iterator[str]:
    """The URL of the page in a state. Postgres is away: windows of other ranges and histories are one sentence."""
    url = "postgresql://reader@127.0.0.1:9/nothing"
    settings = DashboardSettings(
        kafka_bootstrap_servers="127.0.0.1:9",
        schema_registry_url="http://127.0.0.1:9",
        database_url=url,
        dashboard_port=0,
    )
    stop = threading.Event()
    engine = create_engine(url.replace("postgresql", "postgresql+psycopg"))
    page = Page(States(state), engine, _Letters(state), _Records(state), stop)  # type: ignore[arg-type]
    listening = listen(settings)
    config = uvicorn.Config(app(page, ["127.0.0.1"]), log_config=None, access_log=False, timeout_graceful_shutdown=2)
    thread = threading.Thread(target=Server(config, stop).run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        stop.set()
        thread.join(10)
