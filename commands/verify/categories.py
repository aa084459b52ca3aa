"""Checks `sales_by_category_window` against the loaded windows by product and versions of products."""

from commands.audit.engine import Engine
from commands.audit.windows import COUNTS, MONEY
from commands.verify.compare import Column, Format, check
from commands.verify.report import Check
from commands.verify.windows import MEASURES, TABLES

VIEW = "sales_by_category_window"
#: The category of a product that has no version.
UNKNOWN = "Unknown"
KEYS = (Column("window_size", Format.DURATION), Column("window_start", Format.TIME), Column("category"))


def category_check(engine: Engine) -> Check:
    """The line of ``sales_by_category_window``: sums over the products that are in a category at ``window_start``.

    Before its first version, and in a gap after a delete, a product is in the category of its first version. Reads
    ``dim_products`` and ``sales_by_product_window`` as loaded, so that a wrong row is not reported twice.
    """
    sums = ", ".join(f"sum({m})::BIGINT AS {m}" for m in (*COUNTS, *MONEY))
    wanted = f"""
        SELECT window_size, window_start, category, min(window_end) AS window_end, {sums}
        FROM (
            SELECT w.*, CASE WHEN d.product_id IS NOT NULL AND (d.valid_to IS NULL OR d.valid_to > w.window_start)
                             THEN d.category ELSE coalesce(oldest.category, '{UNKNOWN}') END AS category
            FROM {TABLES["product"]} w
            ASOF LEFT JOIN dim_products d ON d.product_id = w.product_id AND d.valid_from <= w.window_start
            LEFT JOIN (
                SELECT product_id, arg_min(category, valid_from) AS category FROM dim_products GROUP BY product_id
            ) oldest ON oldest.product_id = w.product_id
        )
        GROUP BY window_size, window_start, category
    """
    return check(engine, VIEW, wanted, VIEW, KEYS, [Column("window_end", Format.TIME), *MEASURES])
