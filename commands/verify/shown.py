"""Checks the views `baskets`, `customer_places` and `store_places` against the loaded facts and versions."""

from commands.audit.engine import Engine
from commands.audit.windows import MONEY
from commands.verify.compare import Column, Format, check, columns
from commands.verify.report import Check
from retail_stream.entities import Entity

#: Who has an address: one of a dimension → the dimension.
PLACES = {"customer": Entity.CUSTOMERS, "store": Entity.STORES}
_REGION = r"([A-Z][A-Z])[ ,]+[0-9]{5}(?:-[0-9]{4})?\s*$"
_CITY = r"([^,\n]+)[,\s]+[A-Z][A-Z][ ,]+[0-9]{5}(?:-[0-9]{4})?\s*$"


def basket_check(engine: Engine) -> Check:
    """The line of ``baskets``: the facts of a store, a customer and an ``event_time``, summed again."""
    wanted = """
        SELECT *, gross_sales - returns_amount - discounts AS net_sales
        FROM (
            SELECT store_id, customer_id, event_time, min(payment_method) AS payment_method, count(*) AS lines,
                   coalesce(sum(quantity) FILTER (quantity > 0), 0) AS units_sold,
                   coalesce(sum(-quantity) FILTER (quantity < 0), 0) AS units_returned,
                   coalesce(sum(total_amount) FILTER (quantity >= 0), 0) AS gross_sales,
                   coalesce(sum(-total_amount) FILTER (quantity < 0), 0) AS returns_amount,
                   sum(discount_applied) AS discounts, sum(tax_amount) AS taxes
            FROM fact_sales GROUP BY store_id, customer_id, event_time
        )
    """
    keys = (*columns("store_id", "customer_id"), Column("event_time", Format.TIME))
    values = columns("payment_method", "lines", "units_sold", "units_returned")
    return check(engine, "baskets", wanted, "baskets", keys, (*values, *columns(*MONEY, format=Format.CENTS)))


def place_check(engine: Engine, one: str) -> Check:
    """The line of ``<one>_places``: each version with city and region out of its address."""
    wanted = f"""
        SELECT sk AS {one}_sk, {one}_id, address, valid_from, valid_to, is_current,
               nullif(trim(regexp_extract(address, '{_CITY}', 1)), '') AS city,
               nullif(regexp_extract(address, '{_REGION}', 1), '') AS region
        FROM dim_{PLACES[one]}
    """
    values = columns(f"{one}_id", "address", "city", "region")
    times = columns("valid_from", "valid_to", format=Format.TIME)
    view = f"{one}_places"
    return check(engine, view, wanted, view, columns(f"{one}_sk"), (*values, *times, Column("is_current")))
