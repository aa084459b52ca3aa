"""Download and prepare everything that the embedded stack runs: `python -m retail_stream.embedded`."""

from __future__ import annotations

import sys

from retail_stream.embedded.infra import say
from retail_stream.embedded.programs import install
from retail_stream.embedded.settings import EmbeddedSettings
from retail_stream.errors import RetailStreamError
from retail_stream.settings import load


def main() -> int:
    try:
        install(load(EmbeddedSettings).cache, say)
    except RetailStreamError as error:
        say(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
