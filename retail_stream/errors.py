"""The errors of Retail Stream; the class says who must act.

RetailStreamError
├── SettingsError        the operator: a setting is missing or wrong (exit 2)
├── Unavailable          nothing to do yet: a server does not answer; services wait, commands give up (exit 2)
│   ├── Locked           nothing: another session keeps a lock; the transaction was rolled back
│   └── TopicMadeAnew    the operator: a topic was deleted and made again; services wait for `retail-stream rebuild`
├── Fenced               nothing to do: another worker owns the partition now; the write was rolled back
├── PoisonRecord         the developer: the warehouse cannot store a clean record (exit 1)
├── TooManyRejects       the operator: the share of rejected records is above DLQ_MAX_RATIO (exit 3)
└── Rejected             the record's producer: a raw record breaks rules; a value, never raised
"""

from enum import StrEnum


class RetailStreamError(Exception):
    """Base of all errors: its text is one sentence for a person, ``exit_code`` what a program ends with."""

    exit_code = 1


class SettingsError(RetailStreamError):
    """A setting is missing or wrong: the sentence names the variable, the value and what is allowed."""

    exit_code = 2


class Unavailable(RetailStreamError):
    """A server does not answer: the sentence names it and its address."""

    exit_code = 2


class Locked(Unavailable):
    """Another session keeps a lock. The transaction was rolled back for certain, so its work can be repeated."""


class TopicMadeAnew(Unavailable):
    """A topic was deleted and made again: the sentence names it. Its offsets start again, so nothing of it is read."""


class Fenced(RetailStreamError):
    """The partition has another owner: the epoch in the row of its position is newer than ours."""


class PoisonRecord(RetailStreamError):
    """The warehouse cannot store a clean record: the sentence names topic, partition and offset."""


class TooManyRejects(RetailStreamError):
    """The share of rejected records is above DLQ_MAX_RATIO."""

    exit_code = 3


class Stage(StrEnum):
    """Where in the cleaner a record was rejected, in Kafka Connect's words."""

    HEADER_CONVERTER = "HEADER_CONVERTER"
    VALUE_CONVERTER = "VALUE_CONVERTER"
    TRANSFORMATION = "TRANSFORMATION"


class Rejected(RetailStreamError):
    """Why a raw record becomes a dead letter. Bad data is a value: the cleaner collects these and raises none."""

    def __init__(self, rules: tuple[str, ...], stage: Stage, why: str) -> None:
        """``rules``: the names of all reject rules that the record breaks. ``why``: the same in words."""
        super().__init__(why)
        self.rules, self.stage = rules, stage
