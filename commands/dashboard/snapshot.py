"""What the page shows, as plain values for JSON, read again every second.

Five parts (services, topics, letters, samples, warehouse) are read independently. A part that fails or hangs leaves the
others as they are, and its sentence stands under ``problems`` by the part's name.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from sqlalchemy import Engine

from commands.dashboard import probes, warehouse, windows
from commands.dashboard.delays import Delays
from commands.dashboard.topics_tail import Late, Letters
from commands.dashboard.trends import EVERY_S, Trends
from commands.dashboard.verdict import Verdict, judge
from commands.status.lag import lags
from commands.status.steady import Arrivals, Least
from retail_stream import topics
from retail_stream.entities import DIMENSIONS, Entity
from retail_stream.errors import RetailStreamError, Unavailable
from retail_stream.kafka.offsets import TopicPartitionKey, end_offsets, topic_partitions
from retail_stream.settings import Connections
from retail_stream.topics import Group, Result
from retail_stream.warehouse.postgres import address

READ_EVERY_S = 1.0
#: Seconds between two readings of topics and of samples.
READ_TOPICS_EVERY_S = 2.0
_RATE_OVER_S = 10.0
#: Rules whose last count is remembered; beyond, only that of rules which are still counted.
_MOST_RULES = 1000
#: A part that takes longer becomes a problem: a frozen server neither answers nor refuses.
LATE_S = 5.0
_log = structlog.get_logger(__name__)

Read = Callable[[], dict[str, Any]]
Positions = Mapping[Group, Mapping[TopicPartitionKey, int]]

#: The arrows of the picture: name → topics whose records go along it. Raw topics are not among them, because their
#: transaction markers have offsets. The published count is what the cleaner has handled, plus its lag.
FLOWS: Mapping[str, tuple[str, ...]] = {
    "clean_dimensions": tuple(topics.clean(e) for e in DIMENSIONS),
    "clean_sales": (topics.clean(Entity.SALES),),
    "dlq": tuple(topics.dlq(e) for e in Entity),
    "windows": (Result.WINDOWS,),
    "late": (Result.LATE,),
    "faults": (Result.FAULTS,),
}


class Snapshots:
    """Reads every part in a thread of its own, and keeps the newest snapshot."""

    def __init__(
        self,
        connections: Connections,
        engine: Engine,
        services: probes.Probes,
        letters: Letters,
        delays: Delays,
        late: Late,
    ) -> None:
        """Opens nothing until :meth:`start`."""
        self._connections = connections
        self._engine = engine
        self._services = services
        self._letters = letters
        self._delays = delays
        self._late = late
        self._ends: deque[tuple[float, dict[str, int]]] = deque()
        self._problems: dict[str, str | None] = {}
        self._began: dict[str, float] = {}
        self._lock = threading.Lock()
        self._now: dict[str, Any] = {"at": time.time(), "problems": {}}
        self._arrivals = Arrivals(connections)
        self._least = Least()
        self._positions: Positions | None = None
        self._rules: dict[str, tuple[float, int]] = {}
        self._verdict = Verdict()
        self.trends = Trends()

    def start(self, stop: threading.Event) -> None:
        """Read until ``stop``, each part in a thread of its own: one that waits for a server delays no other."""
        parts: dict[str, tuple[Read, float]] = {
            "services": (self._read_services, READ_EVERY_S),
            "warehouse": (self._read_warehouse, READ_EVERY_S),
            "topics": (self._read_topics, READ_TOPICS_EVERY_S),
            "letters": (self._read_letters, READ_TOPICS_EVERY_S),
            "samples": (self._read_samples, READ_TOPICS_EVERY_S),
            # Reads nothing: it updates the snapshot while all others hang, so that they are named.
            "clock": (dict, READ_EVERY_S),
        }
        for name, (read, every_s) in parts.items():
            threading.Thread(
                target=self._keep_reading, args=(name, read, every_s, stop), name=name, daemon=True
            ).start()

    def _keep_reading(self, name: str, read: Read, every_s: float, stop: threading.Event) -> None:
        while not stop.is_set():
            began = time.monotonic()
            with self._lock:
                self._began[name] = began
            self._update(name, *self._read_part(name, read))
            stop.wait(max(0.1, every_s - (time.monotonic() - began)))

    def now(self) -> dict[str, Any]:
        """The newest snapshot; it is replaced at least once a second, also while servers hang."""
        return self._now

    def _read_part(self, name: str, read: Read) -> tuple[dict[str, Any], str | None]:
        """The values read and None, or no values and a sentence."""
        try:
            return read(), None
        except RetailStreamError as e:
            return {}, str(e)
        except Exception:
            # Without a sentence the page would stand still and look healthy.
            _log.exception("reading a part failed", part=name)
            return {}, f"The dashboard failed to read the {name}; see its log."

    def _update(self, name: str, values: dict[str, Any], problem: str | None) -> None:
        at = time.time()
        with self._lock:
            self._problems[name] = problem
            self._began.pop(name, None)
            late = (part for part, began in self._began.items() if time.monotonic() - began > LATE_S)
            problems = {part: why for part, why in self._problems.items() if why}
            problems |= {part: f"{self._servers_of(part)}: no answer for more than {LATE_S:.0f} s." for part in late}
            now = {**self._now, **values, "at": at, "problems": problems}
            # Not before topics were read: all existing dead letters would seem to come at once.
            last = self.trends.last
            # A clock that was set back leaves the last sample in the future.
            if "letters" in now and "flow" in now and (last is None or abs(at - last["at"]) >= EVERY_S):
                self.trends.add(at, self._figures(now))
            if "services" in now:
                now |= {"verdict": self._verdict.update(judge(now, self.trends), at), "sample": self.trends.last}
            self._now = now

    def _figures(self, now: Mapping[str, Any]) -> dict[str, float | None]:
        """The figures of a sample: rates, lags, the watermark, and how often a second each rule is broken."""
        stream, at = now.get("stream", {}), now["at"]
        figures: dict[str, float | None] = {f"rate.{name}": flow["per_s"] for name, flow in now["flow"].items()}
        figures |= {f"lag.{group}": lag for group, lag in now["lag"].items()}
        if (watermark := stream.get("watermark")) is not None:
            figures |= {"watermark": watermark, "behind": max(0.0, at - watermark)}
        for rule in now.get("rules", ()):
            name, total = f"{rule['entity']} {rule['rule']} {rule['action']}", rule["total"]
            since, before = self._rules.get(name, (at - EVERY_S, 0 if self._rules else total))
            # A counter that goes back belongs to a restarted cleaner.
            figures[f"rule.{name}"] = max(0, total - before) / max(at - since, EVERY_S / 2)
            self._rules[name] = (at, total)
        if len(self._rules) > _MOST_RULES:
            self._rules = {name: last for name, last in self._rules.items() if last[0] == at}
        return figures

    def _servers_of(self, part: str) -> str:
        """The servers that a part reads from, for a sentence."""
        postgres = f"Postgres at {address(self._engine)}"
        kafka = f"Kafka at {self._connections.kafka_bootstrap_servers}"
        return {
            "services": "The services' health pages",
            "warehouse": postgres,
            "topics": f"{kafka}, or {postgres}",
            "letters": kafka,
            "samples": f"{kafka}, or the schema registry at {self._delays.registry}",
        }.get(part, part)

    def _read_services(self) -> dict[str, Any]:
        services = self._services.ask()
        # Rejects are counted from the topics: a cleaner's own counters restart with it.
        others = {rule: n for rule, n in probes.broken(services).items() if n and rule[1] != "reject"}
        counted = {(entity, "reject", rule): n for (entity, rule), n in dict(self._letters.counts).items()}
        rules = [
            {"entity": entity, "action": action, "rule": rule, "total": int(n)}
            for (entity, action, rule), n in sorted({**others, **counted}.items())
        ]
        return {"services": probes.as_rows(services), "rules": rules}

    def _read_topics(self) -> dict[str, Any]:
        places = topic_partitions(self._connections, *(t for names in FLOWS.values() for t in names))
        ends = end_offsets(self._connections, places)
        read = lags(self._connections, self._read_positions())
        lag = {group.value: max(0, n) for group, n in self._least.next(time.monotonic(), read).items()}
        sums = {name: sum(n for (t, _), n in ends.items() if t in names) for name, names in FLOWS.items()}
        sums["arrived"] = self._arrivals()
        self._ends.append((time.monotonic(), sums))
        while len(self._ends) > 2 and self._ends[-1][0] - self._ends[0][0] > _RATE_OVER_S:
            self._ends.popleft()
        (began, before), (ended, now) = self._ends[0], self._ends[-1]
        seconds = max(ended - began, READ_EVERY_S)
        flow = {name: {"total": n, "per_s": max(0.0, (n - before[name]) / seconds)} for name, n in now.items()}
        handled = sums["clean_dimensions"] + sums["clean_sales"] + sums["dlq"]
        # Its rate is counted on the raw topics themselves: a commit that comes late would make the sum swing.
        flow["raw"] = {"total": handled + read[Group.CLEANER], "per_s": flow.pop("arrived")["per_s"]}
        return {"flow": flow, "lag": lag}

    def _read_positions(self) -> Positions:
        """The positions in Postgres. While it is away they stay what they were: no group can pass them."""
        try:
            with warehouse.session(self._engine) as connection:
                self._positions = warehouse.stored_positions(connection)
        except Unavailable:
            if self._positions is None:
                raise
        return self._positions

    def _read_letters(self) -> dict[str, Any]:
        self._letters.update()
        self._late.update()
        letters = {"total": self._letters.total, "skipped": self._letters.skipped}
        return {"late": self._late.total, "letters": letters}

    def _read_samples(self) -> dict[str, Any]:
        self._delays.update()
        return {"delays": self._delays.histogram()}

    def _read_warehouse(self) -> dict[str, Any]:
        with warehouse.session(self._engine) as connection:
            return {
                "stream": warehouse.state(connection),
                "windows": windows.newest(connection),
                "groupings": windows.choices(connection),
            }
