"""An engine for each test."""

import pytest

from commands.audit.engine import Engine, connect


@pytest.fixture
def engine(tmp_path) -> Engine:
    engine = connect(tmp_path)
    engine.execute("CREATE TABLE committed AS SELECT 'customers.raw' AS topic, 0 AS partition, 100 AS next_offset")
    engine.execute("CREATE TABLE letters_from (topic VARCHAR, partition BIGINT, first BIGINT)")
    engine.execute("CREATE TABLE archived (first_us BIGINT, after_us BIGINT)")
    engine.execute("CREATE TABLE forgotten (entity VARCHAR, id BIGINT, before BIGINT)")
    return engine
