"""How long to keep what; without a variable everything is kept."""

from typing import Annotated

from pydantic import Field

from retail_stream.settings import Connections

_DAYS = Field(ge=0, le=36_500, description="whole days from 0 (for ever) to 36500")
_Months = Annotated[int, Field(ge=0, le=1_200, description="whole months from 0 (for ever) to 1200")]


class TopicRetention(Connections):
    """Days for which Kafka keeps the records of topics. None leaves the topics as they are, 0 keeps for ever."""

    #: `<entity>.raw` and `<entity>.clean`
    retention_records_days: Annotated[int | None, _DAYS] = None
    #: `<entity>.dlq`
    retention_dead_letters_days: Annotated[int | None, _DAYS] = None


class RetentionSettings(TopicRetention):
    """The warehouse's part, too; 0 keeps for ever."""

    #: months of `fact_sales` that stay attached, beside the current one
    retention_facts_months: _Months = 0
    #: days of `sales_by_window`, `sales_by_product_window` and `window_revisions`
    retention_windows_days: Annotated[int, _DAYS] = 0
