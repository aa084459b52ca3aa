"""The metrics that docs/observability.md lists."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([\w, ]*)\|", re.MULTILINE)


@dataclass(frozen=True)
class Documented:
    """A row of the table; ``name`` as on /metrics."""

    name: str
    kind: str
    labels: frozenset[str]

    @property
    def samples(self) -> frozenset[str]:
        """Names of its series."""
        if self.kind != "histogram":
            return frozenset({self.name})
        return frozenset(f"{self.name}{suffix}" for suffix in ("_bucket", "_sum", "_count"))


def metrics() -> list[Documented]:
    """The table."""
    rows = _ROW.findall((ROOT / "docs" / "observability.md").read_text())
    return [Documented(name, kind, frozenset(labels.replace(",", " ").split())) for name, kind, labels in rows]
