"""The decision: what a batch of changes does to the histories of its keys, as a pure function over frames.

The table of versions is a function of the *set* of changes. The changes of a key are ordered by time. Of several at one
time, the last wins and the others leave no version: a delete is after an upsert, then the larger tuple of attributes is
last, null smallest. A change whose state (deleted, or its attributes) differs from its predecessor's is a **boundary**;
before its first change a key is deleted. An upsert that is a boundary starts a version, and the next boundary ends it.

    the change        10   11   12   15   20        boundaries
    a@10              |a--------------------▶       10
    a@11              |a--------------------▶       10               equal to its predecessor
    delete@12         |a-------)                    10 12
    b@20              |a-------)         |b-▶       10 12 20         a does not come back
    b@15, late        |a-------)    |b------▶       10 12 15         b@20 is equal to its predecessor now
    b@11, late        |a--)|b--)    |b------▶       10 11 12 15      wins over a@11 and splits the version

A late change can alter the boundaries at its own time and at its stored successor, nowhere else. So a few neighbours
decide, whatever the length of the history (see :class:`Neighbours`).

Only tracked attributes make boundaries. The untracked attributes of a version have the values of the last change before
its end, so a change that is not a boundary updates them in place.
"""

from dataclasses import dataclass

import polars as pl

from services.scd_merger.dimensions import AttributeType, Dimension, cents

FROM = "valid_from"
TO = "valid_to"
DELETED = "deleted"

_FRESH = "_fresh"  # the row is a change of this batch that won its time
_REPLACES = "_replaces"  # ... over a stored one
_START = "_start"  # a stored version starts here ...
_OLD_TO = "_old_to"  # ... and ends there
_EDGE = "_edge"  # a stored version starts or ends here
_BOUNDARY = "_boundary"
_TOUCHED = "_touched"  # this row may have another predecessor than before
_RUN = "_run"  # rows from one boundary up to the next have one number
_WAS = "_was_"  # before the name of an untracked attribute: its value in the stored version that starts here
_LAST = "_last_"  # ... and in the one that ended where this one ends
_NEVER = 2**63 - 1


@dataclass(frozen=True)
class Neighbours:
    """The stored rows around the (key, time) pairs of a batch; rows may repeat, and further rows do no harm.

    ``changes``: a frame of changes, for each pair the last one before the time and the first two at or after it.
    ``versions``: key, ``valid_from``, ``valid_to`` (null: open) and the untracked attributes, for each pair the last
    version that starts before the time and the first two that start at or after it.
    """

    changes: pl.DataFrame
    versions: pl.DataFrame


@dataclass(frozen=True)
class Plan:
    """Writes, in an order in which no intermediate state has overlapping versions; rows in (key, time) order.

    ``vanished``, ``shrunk``, ``extended``: key, ``valid_from`` and new ``valid_to`` (null: open) of versions that are
    deleted, end earlier, or end later. ``rewritten``: versions that keep their start and get other attributes.
    ``refreshed``: versions of which only untracked attributes change. ``opened``: new versions.
    ``added``, ``replaced``: winning changes at times that had none, and at times that had another.
    """

    vanished: pl.DataFrame
    shrunk: pl.DataFrame
    extended: pl.DataFrame
    rewritten: pl.DataFrame
    refreshed: pl.DataFrame
    opened: pl.DataFrame
    added: pl.DataFrame
    replaced: pl.DataFrame


def winners(dimension: Dimension, changes: pl.DataFrame) -> pl.DataFrame:
    """The winning change of each (key, time), sorted by key and time."""
    moment = [dimension.key, dimension.sequence]
    ordered = changes.sort([*moment, DELETED, *dimension.compared], nulls_last=False)
    return ordered.filter(_differs_from(ordered, moment, -1))


def merge(dimension: Dimension, changes: pl.DataFrame, stored: Neighbours) -> Plan:
    """Decide what ``changes`` (any number, in any order, repeated or not) do to the ``stored`` versions and changes."""
    key, time = dimension.key, dimension.sequence
    line = _timeline(dimension, changes, stored)
    first = _differs_from(line, [key], 1)
    # Only a change of this batch and the change right behind it can have another predecessor than before.
    touched = line[_FRESH] | (line[_FRESH].shift(1, fill_value=False) & ~first)
    differs = (~line[DELETED] & first) | (_differs_from(line, [DELETED, *dimension.tracked], 1) & ~first)
    line = line.with_columns(
        pl.when(touched).then(differs).otherwise(pl.col(_EDGE)).alias(_BOUNDARY),
    )
    line = line.with_columns(_next_boundary(key, time).alias(TO), pl.col(time).alias(FROM))
    fresh = line.filter(_FRESH).select(*dimension.change_schema, _REPLACES)
    if dimension.untracked:
        line = _with_last_values(dimension, line.with_columns(touched.alias(_TOUCHED)), first, stored.versions)
    starts = line.filter(pl.col(_BOUNDARY) & ~pl.col(DELETED))
    kept = starts.filter(_START)
    span = [key, FROM, TO]
    new_end, old_end = pl.col(TO).fill_null(_NEVER), pl.col(_OLD_TO).fill_null(_NEVER)
    others = [_as_stored(dimension, u).ne_missing(pl.col(_WAS + u)) for u in dimension.untracked]
    return Plan(
        vanished=line.filter(pl.col(_START) & ~(pl.col(_BOUNDARY) & ~pl.col(DELETED))).select(span),
        shrunk=kept.filter(new_end < old_end).select(span),
        extended=kept.filter(new_end > old_end).select(span),
        rewritten=kept.filter(_FRESH).select(key, FROM, *dimension.attributes),
        refreshed=kept.filter(~pl.col(_FRESH) & pl.any_horizontal(pl.lit(value=False), *others)).select(
            key, FROM, *dimension.untracked
        ),
        opened=starts.filter(~pl.col(_START)).select(key, *dimension.attributes, FROM, TO),
        added=fresh.filter(~pl.col(_REPLACES)).drop(_REPLACES),
        replaced=fresh.filter(_REPLACES).drop(_REPLACES),
    )


def _timeline(dimension: Dimension, changes: pl.DataFrame, stored: Neighbours) -> pl.DataFrame:
    """Winning changes, new and stored, and the edges of stored versions: one row per (key, time), in that order.

    The true neighbours of a new change are its neighbours here. Between two stored rows there may be changes that were
    not read. An edge whose change was not read stands for it; its attributes are unknown and not used.
    """
    moment = [dimension.key, dimension.sequence]
    both = pl.concat(
        [
            winners(dimension, changes).with_columns(pl.lit(True).alias(_FRESH)),
            stored.changes.unique(moment).with_columns(pl.lit(False).alias(_FRESH)),
        ]
    ).sort(
        [*moment, DELETED, *dimension.compared, _FRESH],
        nulls_last=False,
        # Of two equal changes the stored one is last and wins, so a duplicate changes nothing.
        descending=[False] * (3 + len(dimension.compared)) + [True],
    )
    beaten = ~_differs_from(both, moment, 1)
    both = both.with_columns((beaten & both[_FRESH]).alias(_REPLACES)).filter(_differs_from(both, moment, -1))
    line = both.join(_edges(dimension, stored.versions), on=moment, how="full", coalesce=True).sort(moment)
    return line.with_columns(
        pl.col(_FRESH, _REPLACES, _START, _EDGE).fill_null(False),
        # An edge without a change is the start of a version, or else the delete that ended one.
        pl.col(DELETED).fill_null(~pl.col(_START).fill_null(False)),
    )


def _with_last_values(
    dimension: Dimension, line: pl.DataFrame, first: pl.Series, versions: pl.DataFrame
) -> pl.DataFrame:
    """Set the untracked attributes of each row to those of the last change of the version that starts there.

    The last change is known if it is of this batch or stands before a touched row. Any other version ends where a
    stored version ended before, which has the values.
    """
    key, last = dimension.key, pl.col(_RUN).is_last_distinct()
    same_key_below = ~first.shift(-1, fill_value=True)
    known = line[_FRESH] | (line[_TOUCHED].shift(-1, fill_value=False) & same_key_below)
    numbered = line.with_columns(known.alias("_known"), (line[_BOUNDARY] | first).cum_sum().alias(_RUN))
    stored = versions.unique([key, FROM]).select(
        key, pl.col(TO).fill_null(_NEVER), *(pl.col(u).alias(_LAST + u) for u in dimension.untracked)
    )
    ends = numbered.filter(last).with_columns(pl.col(TO).fill_null(_NEVER)).join(stored, on=[key, TO], how="left")
    values = ends.select(
        _RUN, *(pl.when("_known").then(u).otherwise(pl.col(_LAST + u)).alias(u) for u in dimension.untracked)
    )
    return numbered.drop(dimension.untracked).join(values, on=_RUN, how="left", maintain_order="left")


def _as_stored(dimension: Dimension, attribute: str) -> pl.Expr:
    column = pl.col(attribute)
    return cents(column) if dimension.attributes[attribute] == AttributeType.MONEY else column


def _edges(dimension: Dimension, versions: pl.DataFrame) -> pl.DataFrame:
    key, time = dimension.key, dimension.sequence
    versions = versions.unique([key, FROM])
    was = (pl.col(u).alias(_WAS + u) for u in dimension.untracked)
    starts = versions.select(key, pl.col(FROM).alias(time), pl.col(TO).alias(_OLD_TO), pl.lit(True).alias(_START), *was)
    ends = versions.filter(pl.col(TO).is_not_null()).select(key, pl.col(TO).alias(time))
    ends = ends.join(starts, on=[key, time], how="anti").with_columns(pl.lit(False).alias(_START))
    return pl.concat([starts, ends], how="diagonal").with_columns(pl.lit(True).alias(_EDGE))


def _next_boundary(key: str, time: str) -> pl.Expr:
    """The time of the next boundary of the same key below each row, or null."""
    below = [pl.when(_BOUNDARY).then(c).shift(-1).fill_null(strategy="backward") for c in (key, time)]
    return pl.when(below[0] == pl.col(key)).then(below[1])


def _differs_from(frame: pl.DataFrame, columns: list[str], periods: int) -> pl.Series:
    """Whether each row differs in any of the columns from the row ``periods`` above it (negative: below).

    The first of ``columns`` holds no nulls, so that a row with nothing there differs from it.
    """
    return frame.select(
        differs=pl.any_horizontal(pl.col(c).ne_missing(pl.col(c).shift(periods)) for c in columns)
    ).to_series()
