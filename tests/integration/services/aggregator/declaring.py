"""The aggregator with the entries of another file: `python -m tests.integration.services.aggregator.declaring`.

DECLARED_FILE names the file.
"""

import os
from pathlib import Path

from retail_stream.service.program import leave
from services.aggregator import declared
from services.aggregator.__main__ import main

if __name__ == "__main__":
    declared.FILE = Path(os.environ["DECLARED_FILE"])
    leave(main())
