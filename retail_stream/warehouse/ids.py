"""The id of a warehouse: a UUID of version 7 (RFC 9562), which begins with the time when it was given."""

import uuid
from typing import Final

#: SQL: a new id. The first 48 bits are milliseconds since 1970-01-01 UTC; two bits turn version 4 into version 7.
NEW: Final = """
    encode(set_bit(set_bit(
        overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6
        ), 52, 1), 53, 1), 'hex')::uuid
"""


def given_ms(warehouse: str) -> int | None:
    """When an id was given, in milliseconds since 1970-01-01 UTC; None for one of an earlier release, of version 4."""
    number = uuid.UUID(warehouse)
    return number.int >> 80 if number.version == 7 else None
