"""Settings of the aggregator; those that shape results are stored with the state and may not change."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from sqlalchemy import Connection, text

from retail_stream.errors import SettingsError
from retail_stream.service.metrics import MetricsPort
from retail_stream.settings import Connections
from services.aggregator import declared
from services.aggregator.declared import Declarations
from services.aggregator.step import Rules
from services.aggregator.windows import SECOND, parse

# A hundred days; a longer time is more likely a mistyped unit.
_LONGEST_S = 8_640_000
_Seconds = Annotated[int, Field(ge=0, le=_LONGEST_S, description=f"whole seconds from 0 to {_LONGEST_S}")]


def _normal(value: str) -> str:
    return ",".join(w.text for w in parse(value))


class AggregatorSettings(Connections):
    """``sales_windows`` as :func:`windows.parse` reads it; the rest in seconds. METRICS_PORT: 0 = any free port."""

    sales_windows: Annotated[str, AfterValidator(_normal), Field(description="a list like 1m,1h,5m/1m")] = "1m"
    watermark_delay_s: _Seconds = 10
    allowed_lateness_s: _Seconds = 60
    idle_timeout_s: Annotated[int, Field(ge=1, le=_LONGEST_S, description=f"whole seconds from 1 to {_LONGEST_S}")] = 15
    fact_sales: Annotated[Literal["on", "off"], Field(description="on or off")] = "on"
    metrics_port: MetricsPort = 9104

    @cached_property
    def declared(self) -> Declarations:
        """The entries of `schemas/windows.toml`, as they stood when they were first asked for.

        Raises:
            SettingsError: the file is not valid, or does not go with SALES_WINDOWS.
        """
        entries = declared.load()
        declared.slides(entries.aggregations, parse(self.sales_windows))
        return entries

    @cached_property
    def rules(self) -> Rules:
        """The settings that the pure part needs.

        Raises:
            SettingsError: as of :attr:`declared`.
        """
        delay, lateness = self.watermark_delay_s * SECOND, self.allowed_lateness_s * SECOND
        return Rules(parse(self.sales_windows), delay, lateness, self.declared)

    @property
    def shaping(self) -> dict[str, str]:
        """The settings that shape results, by variable or file, each in its canonical spelling.

        Raises:
            SettingsError: as of :attr:`declared`.
        """
        return {
            declared.NAME: self.declared.text,
            "SALES_WINDOWS": self.sales_windows,
            "WATERMARK_DELAY_S": str(self.watermark_delay_s),
            "ALLOWED_LATENESS_S": str(self.allowed_lateness_s),
            "FACT_SALES": self.fact_sales,
        }


_STARTED = text(
    "SELECT EXISTS (SELECT FROM consumer_positions WHERE consumer_group = 'aggregator' AND next_offset > 0)"
)
_STORE = text("""
    INSERT INTO stored_settings (name, value) VALUES (:name, :value)
    ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value
""")


def keep(connection: Connection, shaping: dict[str, str]) -> None:
    """Store the shaping settings, or check that they are the ones that the warehouse's sales were computed with.

    Raises:
        SettingsError: one of them differs, and the warehouse has read sales already.
    """
    # Of two replicas that start at once, the second waits here and compares.
    connection.execute(text("SELECT FROM stream_watermark FOR UPDATE"))
    if not connection.execute(_STARTED).scalar_one():
        connection.execute(_STORE, [{"name": n, "value": v} for n, v in shaping.items()])
        return
    compare(dict(connection.execute(text("SELECT name, value FROM stored_settings")).tuples().all()), shaping)


def compare(stored: Mapping[str, str], shaping: Mapping[str, str]) -> None:
    """Check that the shaping settings are the ``stored`` ones.

    Raises:
        SettingsError: one of them differs.
    """
    for name, value in shaping.items():
        if stored.get(name) != value:
            says = f"{name} declares {value!r}" if name == declared.NAME else f"{name}={value!r}"
            raise SettingsError(
                f"{says}: the warehouse was computed with {stored.get(name)!r}; "
                f"allowed: that value, or any value with an empty warehouse (`retail-stream rebuild`)."
            )
