"""The four entities of the retailer and the two fields that every layer needs to know of each."""

from dataclasses import dataclass
from enum import StrEnum


class Entity(StrEnum):
    """An entity; its value is the first part of its topics' names."""

    SALES = "sales"
    CUSTOMERS = "customers"
    PRODUCTS = "products"
    STORES = "stores"


DIMENSIONS = (Entity.CUSTOMERS, Entity.PRODUCTS, Entity.STORES)


@dataclass(frozen=True)
class Fields:
    """Names of fields: ``key`` is the record's Kafka key as decimal digits, ``time`` its event or sequence time."""

    key: str
    time: str


FIELDS = {
    Entity.SALES: Fields(key="store_id", time="event_time"),
    Entity.CUSTOMERS: Fields(key="customer_id", time="last_update_time"),
    Entity.PRODUCTS: Fields(key="product_id", time="last_update_time"),
    Entity.STORES: Fields(key="store_id", time="last_update_time"),
}
