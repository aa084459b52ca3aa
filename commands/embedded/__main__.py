"""`python -m commands.embedded`: download and prepare the programs of the embedded stack."""

from __future__ import annotations

import sys

from commands.embedded.infra import say
from commands.embedded.programs import install
from commands.embedded.settings import EmbeddedSettings
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
