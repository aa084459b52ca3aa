"""Results of checks, and the checks of versions and amounts. They need nothing but Python."""

import re
from dataclasses import dataclass

GB = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """The result of one check; ``cure``: what to do if it is not ``good``.

    ``hint``: the pipeline can start without it.
    """

    good: bool
    what: str
    cure: str = ""
    hint: bool = False

    def __str__(self) -> str:
        mark = "✓" if self.good else "·" if self.hint else "✗"
        return f"  {mark} {self.what}" + (f": {self.cure}" if self.cure and not self.good else "")


def version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``v2.40.3-desktop.1`` gives (2, 40, 3)."""
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(map(int, numbers[1].split("."))) if numbers else ()


def at_least(name: str, installed: str, wanted: tuple[int, ...]) -> Finding:
    """Check that a version is new enough."""
    least = ".".join(map(str, wanted))
    what = f"{name} {installed.strip() or '(not found)'}"
    return Finding(version(installed) >= wanted, what, f"needs {least} or newer")


def enough(name: str, available: float, wanted: float) -> Finding:
    """Check that enough bytes of something are available."""
    return Finding(available >= wanted, f"{available / GB:.1f} GB of {name}", f"needs {wanted / GB:.1f} GB")
