"""The four entities of the retailer, and what their fields mean."""

from dataclasses import dataclass
from enum import StrEnum


class Entity(StrEnum):
    """An entity; its value is the first part of its topics' names."""

    SALES = "sales"
    CUSTOMERS = "customers"
    PRODUCTS = "products"
    STORES = "stores"


@dataclass(frozen=True)
class Fields:
    """The fields of an entity that have a meaning of their own.

    ``key``: its natural key, the record's Kafka key as decimal digits. ``time``: its event or sequence time.
    ``history_on``: the fields whose changes make new versions of a dimension; empty: all but key and time.
    ``history_except``: fields whose changes make no version, and are written to the version that they fall in.
    """

    key: str
    time: str
    history_on: tuple[str, ...] = ()
    history_except: tuple[str, ...] = ()


#: The declaration of each entity; all but sales are dimensions.
FIELDS = {
    Entity.SALES: Fields(key="store_id", time="event_time"),
    Entity.CUSTOMERS: Fields(key="customer_id", time="last_update_time"),
    Entity.PRODUCTS: Fields(key="product_id", time="last_update_time"),
    Entity.STORES: Fields(key="store_id", time="last_update_time"),
}

DIMENSIONS = tuple(e for e in Entity if e is not Entity.SALES)

#: The dimensions that a sale refers to.
JOINED = (Entity.CUSTOMERS, Entity.PRODUCTS, Entity.STORES)
