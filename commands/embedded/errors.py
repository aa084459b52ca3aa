"""What can keep the embedded stack from working.

EmbeddedError        one sentence for the user; commands print it and exit 2
├── BrokenDownload   a file is not the one that `maven.lock` names
├── PortTaken        somebody else listens on a port that we need
└── ServerDied       a server stopped by itself while we waited for it
"""

from retail_stream.errors import RetailStreamError


class EmbeddedError(RetailStreamError):
    """The stack cannot do what was asked; the text is one sentence for the user."""

    exit_code = 2


class BrokenDownload(EmbeddedError):
    """A downloaded file does not have the checksum that the lock file gives it."""


class PortTaken(EmbeddedError):
    """A port that a server needs is in use."""


class ServerDied(EmbeddedError):
    """A server stopped before it answered; the text ends with the last lines of its log."""
