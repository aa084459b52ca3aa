"""dlt's ``scd2`` merge strategy, the changes in a number of loads.

    python -m benchmarks.peers.dlt_scd2 <database URL> <changes.parquet> <loads> <folder>

Prints the seconds that the loads took.  https://dlthub.com/docs/general-usage/merge-loading#scd2-strategy
"""

import logging
import sys
import time

import dlt
import pyarrow.parquet
from dlt.destinations import postgres
from dlt.sources.helpers.transform import add_row_hash_to_table

URL, FILE, LOADS, FOLDER = sys.argv[1:]


def main() -> None:
    """Load the file in order, as Arrow tables, which dlt takes fastest.

    ``merge_key`` keeps products that are absent from a load.
    """
    # It warns of each load that Arrow's types are kept.
    logging.disable(logging.WARNING)
    rows = pyarrow.parquet.read_table(FILE)
    size = -(-rows.num_rows // int(LOADS))
    pipeline = dlt.pipeline(
        "scd2", destination=postgres(URL), dataset_name="dlt_scd2", pipelines_dir=FOLDER, progress=None
    )
    began = time.perf_counter()
    for first in range(0, rows.num_rows, size):
        products = dlt.resource(
            [rows.slice(first, size)],
            name="products",
            write_disposition={"disposition": "merge", "strategy": "scd2", "row_version_column_name": "row_hash"},
            merge_key="product_id",
        )
        pipeline.run(products.add_map(add_row_hash_to_table("row_hash")))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
