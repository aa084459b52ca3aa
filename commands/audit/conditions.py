"""Conditions of `schemas/rules` in DuckDB: the text as it stands, over columns of the types that conditions expect."""

from collections.abc import Iterable

from commands.audit.engine import Engine
from commands.audit.layouts import Holds, holds
from retail_stream.entities import Entity

# Far from any allowed year, and near enough to add an interval to.
_FAR_US = 2**62
_RECORD_TIME = "record_time"


def define(engine: Engine, entity: Entity, name: str, must: str) -> str:
    """Make the macro ``name`` of a condition; returns SQL that calls it for a row of ``raw_<entity>``.

    ``must`` has to be checked by :mod:`retail_stream.rules.compiling`: it is executed. The call is NULL where SQL says
    so.
    """
    parameters = ", ".join(f'"{p}"' for p in (*holds(entity), _RECORD_TIME))
    # A line of its own: a condition may end in a comment.
    engine.execute(f"CREATE OR REPLACE MACRO {name}({parameters}) AS (\n{must}\n)")
    return f"{name}({', '.join(_arguments(entity))})"


def _arguments(entity: Entity) -> Iterable[str]:
    for name, held in holds(entity).items():
        yield _time(f'"{name}"') if held is Holds.TIME else f'"{name}"'
    yield _time("ts")


def _time(micros: str) -> str:
    # greatest() and least() would skip a NULL.
    far = f"CASE WHEN {micros} > {_FAR_US} THEN {_FAR_US} WHEN {micros} < -{_FAR_US} THEN -{_FAR_US} ELSE {micros} END"
    return f"make_timestamp({far})"
