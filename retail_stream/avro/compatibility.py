"""Compatibility modes of subjects, and what a mode that is looser than ours lets a producer do. Needs only Python."""

from collections.abc import Mapping

#: of raw subjects, whose producers are not ours
STRICTEST = "FULL_TRANSITIVE"
NONE = "NONE"
BACKWARD = "BACKWARD"

_REMOVED = "a producer may remove a required field or make it nullable, and its records become dead letters"
_STEP_BY_STEP = "a schema is compared with the one before it only, so two steps may remove a required field"

#: a mode that is looser than STRICTEST → what it can cost
COSTS: Mapping[str, str] = {
    NONE: "a producer may change or remove any field, and its records become dead letters",
    BACKWARD: _REMOVED,
    "BACKWARD_TRANSITIVE": _REMOVED,
    "FORWARD": _STEP_BY_STEP,
    "FORWARD_TRANSITIVE": "a newer schema of ours may not read the records of older ones",
    "FULL": _STEP_BY_STEP,
}
UNKNOWN_COST = "its meaning is not known here"
