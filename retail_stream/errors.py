"""The errors of Retail Stream; the class says who must act.

RetailStreamError
├── SettingsError        the operator: a setting is missing or wrong (exit 2)
├── Unavailable          nobody yet: a server does not answer; services wait, commands give up (exit 2)
├── Fenced               nobody: another worker owns the partition now; the write was rolled back
├── PoisonRecord         the developer: a clean record that the warehouse cannot take (exit 1)
└── TooManyRejects       the operator: DLQ_MAX_RATIO was passed (exit 3)
"""


class RetailStreamError(Exception):
    """Base of all; its text is one sentence for a person, and ``exit_code`` what a program ends with."""

    exit_code = 1


class SettingsError(RetailStreamError):
    """A setting is missing or wrong: the sentence names the variable, the value and what is allowed."""

    exit_code = 2


class Unavailable(RetailStreamError):
    """A server does not answer: the sentence names it and its address."""

    exit_code = 2


class Fenced(RetailStreamError):
    """The epoch in a position's row is newer than ours: the partition has another owner."""


class PoisonRecord(RetailStreamError):
    """A clean record that the warehouse cannot take: the sentence names topic, partition and offset."""


class TooManyRejects(RetailStreamError):
    """The share of rejected records passed DLQ_MAX_RATIO."""

    exit_code = 3
