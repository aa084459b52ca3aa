"""Constant times and intervals of conditions, in microseconds; times since 1970-01-01 UTC."""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORMS = {
    "TIMESTAMP": (
        re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?"),
        "TIMESTAMP '2026-11-30 12:00:00', in UTC",
    ),
    "DATE": (re.compile(r"\d{4}-\d\d-\d\d"), "DATE '2026-11-30', its midnight in UTC"),
}
_PERIOD = re.compile(r"(\d{1,7}) (second|minute|hour|day|week)s?")


def time_us(kind: str, text: str) -> int:
    """``kind``: TIMESTAMP or DATE.

    Raises:
        ValueError: the text is not such a time, or the kind is another; what is allowed.
    """
    if kind not in _FORMS:
        raise ValueError(f"a text cannot become {kind}; allowed are TIMESTAMP '…', DATE '…' and INTERVAL '…'")
    form, example = _FORMS[kind]
    try:
        if form.fullmatch(text):
            return (datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
    except ValueError:
        pass
    raise ValueError(f"{kind} '{text}' is not valid; write {example}")


def period_us(text: str) -> int:
    """An interval of seconds, minutes, hours, days or weeks; months differ in length.

    Raises:
        ValueError: the text is not such an interval; what is allowed.
    """
    period = _PERIOD.fullmatch(text.lower())
    if period is None:
        raise ValueError(f"INTERVAL '{text}' is not valid; write INTERVAL '5 minutes', of weeks at most")
    return int(period[1]) * timedelta(**{f"{period[2]}s": 1}) // _MICROSECOND
