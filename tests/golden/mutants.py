"""Wrong services: an expression of a function is another one. `verify` must be red for each, and name its row.

``python -m tests.golden.mutants`` is a cleaner with all mistakes of CLEANER; each shows in a record of its own.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import NamedTuple

from retail_stream.service.program import leave
from services.aggregator import duplicates, lifecycle, totals, watermark, windows
from services.cleaner import __main__ as cleaner
from services.cleaner import clean, context, expectations, verdict
from services.scd_merger import events, merge


class Mutant(NamedTuple):
    """A mistake: in ``function``, ``right`` is ``wrong``. The ``line`` of `verify` has ``words`` in an example."""

    name: str
    function: Callable[..., object]
    right: str
    wrong: str
    line: str
    words: str

    def is_named(self, wrong: Mapping[str, Sequence[str]]) -> bool:
        """Whether red lines with these examples name it."""
        return any(self.words in example for example in wrong.get(self.line, ()))


CLEANER = (
    Mutant(
        "only the first default of a batch is applied", verdict.judge,
        "verdict.defaults[rule.field, rule.default] = rows", "verdict.defaults[rule.field, rule.default] = rows[:1]",
        "customers.clean", "email expected 'Unknown', found",
    ),
    Mutant(
        "of several broken rules one is reported", verdict.judge,
        "(*verdict.rejected.get(row, ()), rule.name)", "(rule.name,)",
        "sales.dlq", "rules expected 'discount_not_negative,time_not_future', found",
    ),
    Mutant(
        "exactly five minutes ahead is too far", context._record_times,
        "* _MICROSECONDS", "* _MICROSECONDS - 1",
        "sales.dlq", ": breaks no rule, and is in sales.dlq",
    ),
    Mutant(
        "a null sale goes on", clean._undecodable,
        "entity is Entity.SALES", "entity is Entity.STORES",
        "sales.clean", ": breaks value_present, and is in sales.clean",
    ),
    Mutant(
        "the key is not compared", expectations.rules,
        ".expectations", ".expectations[1:]",
        "sales.clean", ": breaks key_matches, and is in sales.clean",
    ),
)  # fmt: skip
#: Mistakes of merger and aggregator that can be made at once: each is seen in rows of its own.
ROUNDS = (
    (
        Mutant(
            "of a tie the smaller wins", merge.winners,
            "moment, -1)", "moment, 1)",
            "dim_products", "product_id 1011 valid_from 2025-03-03T08:00:00Z: name expected 'apple', found 'Zebra'",
        ),
        Mutant(
            "every change begins a version", merge.merge,
            "[DELETED, *dimension.tracked]", "[DELETED, time]",
            "dim_customers", "customer_id 1041 valid_from 2025-03-03T08:10:00Z: should not be there",
        ),
        Mutant(
            "a delete has the time of its record", events.changes,
            "pl.coalesce(SEQUENCE, dimension.sequence)",
            "pl.when(DELETED).then(pl.col('timestamp')).otherwise(pl.col(dimension.sequence))",
            "dim_customers", "customer_id 1021 valid_from 2025-03-03T08:00:00Z: valid_to expected",
        ),
        Mutant(
            "a sale exactly at the end of the lateness counts", windows.Window.missed,
            "pl.col(BEFORE) - lateness", "pl.col(BEFORE) - 1 - lateness",
            "sales_by_window", "window_start 2025-03-03T10:00:00Z store_id 1091: transactions expected 2, found 3",
        ),
        Mutant(
            "every copy of a sale counts", duplicates.deduplicate,
            'sales = rows.filter(flags["kept"])', "sales = rows",
            "sales_by_window", "window_start 2025-03-03T10:00:00Z store_id 1111: transactions expected 2",
        ),
        Mutant(
            "cents are truncated", totals.cents,
            '.round(0, mode="half_to_even")', "",
            "sales_by_window", "store_id 1071: gross_sales expected 13.02, found 13.00",
        ),
        Mutant(
            "a clock that is ahead moves the watermark", watermark.judge_by,
            'np.minimum(rows["event_time"].to_numpy(), rows[TIMESTAMP].to_numpy())', 'rows["event_time"].to_numpy()',
            "sales_by_window", "window_start 2025-03-03T09:59:00Z store_id 1101: missing",
        ),
        Mutant(
            "a window fires a microsecond late", lifecycle.update_windows,
            "(end <= past)", "(end < past)",
            "sales_by_window", "store_id 1131: state expected 'fired', found 'open'",
        ),
    ),
    (
        Mutant(
            "an upsert is after a delete of its time", merge.winners,
            "[*moment, DELETED, *dimension.compared]", "[*moment, *dimension.compared, DELETED]",
            "dim_products", "product_id 1015 valid_from 2025-03-03T08:00:00Z: should not be there",
        ),
        Mutant(
            "a version ends before the next one begins", merge.merge,
            "_next_boundary(key, time).alias(TO)", "(_next_boundary(key, time) - 1).alias(TO)",
            "dim_products", "product_id 1001 valid_from 2025-03-03T08:00:00Z: valid_to expected",
        ),
        Mutant(
            "an identity is held a microsecond too long", windows.expiry,
            "for w in windows) + lateness", "for w in windows) + lateness + 1",
            "sales.late", "sales.raw partition 2 source_offset",
        ),
        Mutant(
            "cents are rounded half up", totals.cents,
            'pl.col(amount) * 100.0).round(0, mode="half_to_even")',
            'pl.col(amount) * 100.0).round(0, mode="half_away_from_zero")',
            "sales_by_window", "store_id 1071: gross_sales expected 13.02, found 13.04",
        ),
        Mutant(
            "a window contains its end", windows.Window.pane,
            "else time // self", "else (time - 1) // self",
            "sales_by_window", "window_start 2025-03-03T08:59:00Z store_id 1081: transactions expected 1, found 2",
        ),
        Mutant(
            "a return is a sale of fewer units", totals.measured,
            'returned = pl.col("quantity") < 0', "returned = pl.lit(value=False)",
            "sales_by_window", "store_id 1061: units_sold expected 3, found 2",
        ),
        Mutant(
            "a window is final a microsecond late", lifecycle.update_windows,
            "(end + lateness <= past)", "(end + lateness < past)",
            "sales_by_window", "store_id 1131: state expected 'final', found 'fired'",
        ),
    ),
)  # fmt: skip


@contextmanager
def mistaken(mutants: Iterable[Mutant]) -> Iterator[None]:
    """Within this context, the functions of these mutants are wrong, wherever they are imported."""
    by_function: dict[FunctionType, list[Mutant]] = {}
    for mutant in mutants:
        assert isinstance(mutant.function, FunctionType)
        by_function.setdefault(mutant.function, []).append(mutant)
    right = {function: function.__code__ for function in by_function}
    # All of them before the first takes effect: a mistake that cannot be made leaves no other one behind.
    wrong = {function: _wrong(function, some) for function, some in by_function.items()}
    try:
        for function, code in wrong.items():
            function.__code__ = code
        yield
    finally:
        for function, code in right.items():
            function.__code__ = code


def _wrong(function: FunctionType, mutants: Iterable[Mutant]) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    for mutant in mutants:
        assert source.count(mutant.right) == 1, f"{mutant.name}: the function has changed"
        source = source.replace(mutant.right, mutant.wrong)
    names: dict[str, FunctionType] = {}
    exec(source, function.__globals__, names)  # noqa: S102
    return names[function.__name__].__code__


if __name__ == "__main__":
    with mistaken(CLEANER):
        leave(cleaner.main())
