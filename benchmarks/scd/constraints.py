"""What it costs that Postgres refuses a wrong history: the merger's rate under each way to say so."""

from sqlalchemy import Engine, text

from benchmarks.cleaner.world import world
from benchmarks.scd.merging import Merging
from benchmarks.scd.stream import stream
from retail_stream.warehouse import postgres

_CHANGES, _KEYS, _ROUNDS = 100_000, 20_000, 2
_OURS = "neighbours compared, one open version"
#: Way → what makes it, and what takes it away; the unique index on (key, valid_from) and the check are always there.
_WAYS: dict[str, tuple[str, str]] = {
    "no constraint": ("", ""),
    "one open version (partial unique index)": (
        "CREATE UNIQUE INDEX one_open ON dim_products (product_id) WHERE valid_to IS NULL",
        "DROP INDEX one_open",
    ),
    "UNIQUE (…, valid WITHOUT OVERLAPS)": (
        """ALTER TABLE dim_products ADD valid tstzrange GENERATED ALWAYS AS (tstzrange(valid_from, valid_to)) STORED,
           ADD CONSTRAINT temporal UNIQUE (product_id, valid WITHOUT OVERLAPS)""",
        "ALTER TABLE dim_products DROP CONSTRAINT temporal, DROP valid",
    ),
    "EXCLUDE USING gist": (
        """ALTER TABLE dim_products ADD CONSTRAINT dim_products_excluded
           EXCLUDE USING gist (product_id WITH =, tstzrange(valid_from, valid_to) WITH &&)""",
        "ALTER TABLE dim_products DROP CONSTRAINT dim_products_excluded",
    ),
    _OURS: (
        """ALTER TABLE dim_products ENABLE TRIGGER USER;
           CREATE UNIQUE INDEX dim_products_one_open ON dim_products (product_id) WHERE valid_to IS NULL""",
        "ALTER TABLE dim_products DISABLE TRIGGER USER; DROP INDEX dim_products_one_open",
    ),
}


def main() -> int:
    """Print the rate under each."""
    changes = stream(_CHANGES, _KEYS).changes
    best: dict[str, float] = dict.fromkeys(_WAYS, 0.0)
    with world() as w:
        warehouse = postgres.engine(w.connections.database_url)
        merging = Merging(w, warehouse)
        _execute(warehouse, _WAYS[_OURS][1])
        for _ in range(_ROUNDS):
            for name, (make, undo) in _WAYS.items():
                _execute(warehouse, "TRUNCATE dim_products", make)
                best[name] = max(best[name], merging.rate(changes))
                _execute(warehouse, undo)
    for name, rate in best.items():
        print(f"{name:<42}{rate:>9,.0f} changes/s{rate / best[_OURS]:>7.2f} of {_OURS}", flush=True)
    return 0


def _execute(warehouse: Engine, *statements: str) -> None:
    with warehouse.begin() as connection:
        for statement in filter(None, statements):
            connection.execute(text(statement))
