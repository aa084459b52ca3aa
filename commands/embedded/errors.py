"""Errors of the embedded stack.

EmbeddedError        one sentence for the user; commands print it and exit 2
├── BrokenDownload   a file is not the one that `maven.lock` names
├── PortTaken        another program listens on a port that a variable chose
└── ServerDied       a server ended before it answered
"""

from retail_stream.errors import RetailStreamError


class EmbeddedError(RetailStreamError):
    """The stack cannot do what the user asked for; the text is one sentence."""

    exit_code = 2


class BrokenDownload(EmbeddedError):
    """A downloaded file does not have the checksum that the lock file gives it."""


class PortTaken(EmbeddedError):
    """A port that a server needs is in use."""


class ServerDied(EmbeddedError):
    """A server ended before it answered; the text ends with the last lines of its log."""
