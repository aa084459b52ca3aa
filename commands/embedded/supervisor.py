"""The process behind `retail-stream infra --detach`: `python -m commands.embedded.supervisor`."""

from __future__ import annotations

import sys

from commands.embedded.infra import run, say
from commands.embedded.settings import EmbeddedSettings
from retail_stream.errors import RetailStreamError
from retail_stream.settings import load


def main() -> int:
    try:
        run(load(EmbeddedSettings))
    except RetailStreamError as error:
        say(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
